"""What is asked about a query."""

from __future__ import annotations

from dataclasses import dataclass

from ..images import ImageSource

__all__ = ["Question"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a query and the templates it is compared with.

    Attributes:
        query: the image to inspect.
        templates: images of good parts, in the order in which the model sees them, before the query. The query is
            compared with the last of them; without any, with itself.
        text: what is asked.
        more: further templates, which the anomaly map is made with and the model does not see.
        turns: what was said before about the same images, oldest first: (question, answer), the answers as the model
            wrote them (`Result.answer`), because their boxes are in its own pixels.
    """

    query: ImageSource
    templates: tuple[ImageSource, ...]
    text: str
    turns: tuple[tuple[str, str], ...] = ()
    more: tuple[ImageSource, ...] = ()
