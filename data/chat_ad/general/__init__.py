"""The general sources of Table I as Chat-AD records: image differences, captions, dialogues, text.

Each source is a class with the methods of `source.GeneralSource`; `writing.convert` draws from it, checks, writes and
counts.
"""
