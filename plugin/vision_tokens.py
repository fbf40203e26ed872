"""Literal vision tokens in a text, in a data file or typed by a user: words, never images."""

import re

__all__ = ["escape_vision_tokens"]

_VISION_TOKENS = re.compile(r"<\|(?=(?:vision_start|vision_end|vision_pad|image_pad|video_pad|compare_pad)\|>)")
_ZERO_WIDTH_SPACE = "\u200b"


def escape_vision_tokens(text: str) -> str:
    """Put a zero-width space into literal vision tokens: they read the same and the tokenizer sees plain text."""
    return _VISION_TOKENS.sub("<|" + _ZERO_WIDTH_SPACE, text)
