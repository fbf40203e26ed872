"""`adcopilot adapt`: from a folder of pictures of good and defective parts to a line.

folder     what is in the folder, and which pictures are held out
memory     whether a base fits into what is free
training   a recipe, a training file, their cost: what the stock commands are given
command    the whole way, which goes on where it was stopped
"""
