"""Literal control tokens in a text, in a data file or typed by a user: words, never images, turns or calls.

A tokenizer turns each of its added tokens into one id wherever the letters stand, so a question with
`<|im_end|>` and `<|im_start|>assistant` in it would end the user's turn and write the model's. Those of Qwen2.5-VL and
AD-Copilot are written `<|name|>`, and `<tool_call>`, `</tool_call>`.
"""

import json
import re

__all__ = ["escape_system", "escape_tools", "escape_vision_tokens"]

_NAME = r"[^\s<>|\u200b]{1,64}"
_CALL = "tool_call>"
#: Whole tokens, and what stands unfinished at the end: a chat template joins the pieces of a message.
_SYSTEM_TOKENS = re.compile(rf"<\|(?={_NAME}\|>|(?:{_NAME}\|?)?\Z)")
_CONTROL_TOKENS = re.compile(
    rf"{_SYSTEM_TOKENS.pattern}"
    rf"|<(?=/?(?:{_CALL}|(?:{'|'.join(_CALL[:length] for length in range(len(_CALL)))})\Z))"
)
_VISION_TOKENS = re.compile(r"<\|(?=(?:vision_start|vision_end|vision_pad|image_pad|video_pad|compare_pad)\|>)")
_ZERO_WIDTH_SPACE = "\u200b"


def escape_vision_tokens(text: str, *, is_label: bool = False) -> str:
    """Put a zero-width space into literal control tokens: they read the same and the tokenizer sees plain text.

    Args:
        text: what a user or a data file says.
        is_label: it is an answer of a data set, that a model is trained to give. Only vision tokens are no answers:
            a set may teach calls or other notations by their tokens.
    """
    tokens = _VISION_TOKENS if is_label else _CONTROL_TOKENS
    return tokens.sub(rf"\g<0>{_ZERO_WIDTH_SPACE}", text)


def escape_system(text: str) -> str:
    """`escape_vision_tokens` for what stands in a system turn, which may say between which tokens a tool is called:
    Qwen's own list of tools does."""
    return _SYSTEM_TOKENS.sub(rf"\g<0>{_ZERO_WIDTH_SPACE}", text)


def escape_tools(tools: str) -> str:
    """`escape_system` for the texts in a list of tools, JSON; `\\u003c` in it is `<` too. What is no JSON stays, for
    LlamaFactory to refuse."""
    try:
        return escape_system(json.dumps(json.loads(tools), ensure_ascii=False))
    except (ValueError, RecursionError):
        return tools
