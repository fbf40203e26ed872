"""Every sentence of the sample set. Few words, so that a tiny tokenizer holds them whole."""

from adcopilot.prompts import ANSWER_WORDS, INSPECT_QUESTION

YES, NO = ANSWER_WORDS

#: Two images: template, then query.
ASK_INSPECT = (INSPECT_QUESTION,)
ASK_DEFECT = (
    "Is there a defect in the second image?",
    "Does the second image show a defect?",
    "Is the second image defective?",
    "Compare the images. Is there a defect?",
)
ASK_WHERE = ("Where is it?", "Where is the defect?")
ASK_WHAT = ("What is it?", "What kind of defect is it?")
ASK_LOCATE = ("Find the defects in the second image.", "List the boxes of the defects in the second image.")
ASK_CAPTION = ("Compare the two images and report in JSON.", "Describe the second image against the first in JSON.")
ASK_CHOICE = "What is the defect in the second image?"
ASK_SAME = ("Is the second image normal?",)

NOTHING = "No defect."

#: One image.
ASK_MARK = ("Is there a defect in the image? If yes, list the boxes.",)
ASK_MARK_SHORT = ("Is there a defect in the image?", "Is there a defect?")
ASK_ODD = (
    "Is one of the items odd? If yes, list the boxes.",
    "Is there a defect in the image? If yes, list the boxes.",
)
ASK_ODD_SHORT = ("Is one of the items odd?", "Is there a defect in the image?")
ASK_LIST = ("List the parts.", "List the boxes of the parts.")
ASK_FIND = ("Where is the {name}?", "Find the {name}.")
ASK_AIM = ("Point at the {name}.",)
ASK_NAME = ("What is at [{x}, {y}]?",)
ASK_READ = ("Read the image row by row.",)
ASK_TABLE = ("What colour is the table?",)
ASK_COUNT = ("How many parts are there?",)


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def boxes_text(boxes: list[list[int]], label: str) -> str:
    """Boxes in AD-Copilot's answer format."""
    return boxes_list([(box, label) for box in boxes])


def boxes_list(items: list[tuple[list[int], str]]) -> str:
    return "[" + ", ".join(f'{{"bbox_2d": {list(box)}, "label": "{label}"}}' for box, label in items) + "]"


def defect_sentence(kind: str, part: str | None) -> str:
    """`A scratch.`, `A pin is missing.`"""
    named = {
        "missing part": f"A {part} is missing.",
        "extra part": "There is an extra part.",
        "misplaced part": f"A {part} is misplaced.",
        "bent part": f"A {part} is bent.",
        "wrong colour": f"A {part} has the wrong colour.",
        "wrong product": "It is another product.",
    }
    return named.get(kind, f"There is a {kind}.")
