"""What the page's buttons ask: the tasks of the paper's Figure 1, in the words that the models were trained with.

The first is `adcopilot inspect`'s question, so its answer and score are the same there and here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..answering.families import Family
from ..prompts import INSPECT_QUESTION, thinking_question

__all__ = ["INSPECT", "QUESTIONS", "PageQuestion", "question_of_line", "wording"]


@dataclass(frozen=True, kw_only=True)
class PageQuestion:
    """A button.

    Attributes:
        title: what stands on it.
        question: what it asks about a template and a query.
        alone: what it asks about the query alone; None where there is nothing to ask without a template.
        boxes: whether the answer lists boxes, whose notation other families than AD-Copilot have to be told.
    """

    title: str
    question: str
    alone: str | None = None
    boxes: bool = False


INSPECT = PageQuestion(title="Is it defective?", question=INSPECT_QUESTION, boxes=True)

QUESTIONS = (
    INSPECT,
    PageQuestion(title="Where are the defects?", question="Find the defects in the second image.", boxes=True),
    PageQuestion(title="What kind of defect?", question="What is the defect in the second image?"),
    PageQuestion(title="Describe the difference", question="Compare the two images and report in JSON.", boxes=True),
    PageQuestion(
        title="Possible cause",
        question="What could have caused the defect in the second image, and what does it mean for the product?",
    ),
    PageQuestion(
        title="What product is it?",
        question="What product does the second image show, and what is it used for?",
        alone="What product does the image show, and what is it used for?",
    ),
    PageQuestion(
        title="Read the writing",
        question="Read all text and numbers in the second image.",
        alone="Read all text and numbers in the image.",
    ),
)


def question_of_line(own: str | None) -> PageQuestion:
    """The first button of a line's page: the very words that its threshold was found with.

    Args:
        own: the line's question; None for `inspect`'s.
    """
    # without a request for boxes: other families were not told of them either when the line was calibrated
    return replace(INSPECT, question=own or INSPECT_QUESTION, boxes=False)


def wording(task: PageQuestion, *, templates: int, family: Family, thinking: bool) -> str | None:
    """The question of a task.

    Args:
        templates: how many pictures of good parts stand before the query.
        family: of the model; one that is not AD-Copilot is told how to write boxes.
        thinking: ask for the reasoning first.

    Returns:
        The question, or None where the task needs a template and there is none.
    """
    text = task.question if templates else task.alone
    if text is None:
        return None
    if templates > 1:  # with one template it stays word for word that of training
        text = text.replace("the second image", "the last image").replace("the two images", "the images")
    if task.boxes and family.name != "adcopilot":
        text = f"{text} {family.box_request}"
    return thinking_question(text) if thinking else text
