"""Conversations about the pictures, in Chat-AD's ShareGPT form."""

import json

import numpy as np

from adcopilot.prompts import thinking_answer, thinking_question, verdict_answer
from adcopilot.sample import wording
from adcopilot.sample.defects import KINDS
from adcopilot.sample.pairs import DrawnPair

#: Tasks about a pair, and how often each is drawn.
TASKS = {
    "inspect": 0.45,
    "question": 0.15,
    "normal": 0.05,
    "dialogue": 0.1,
    "locate": 0.1,
    "choice": 0.1,
    "caption": 0.05,
}
#: Lessons for the tiny model: what is seen first, how it is said later.
SHORT_TASKS = {"question": 1.0}
MIDDLE_TASKS = {"question": 0.75, "inspect": 0.25}
#: Questions with an answer that can be verified, for GRPO; and the same answered with reasons, which GRPO starts from.
VERIFIABLE_TASKS = {"judge": 0.4, "choice": 0.2, "locate": 0.4}
THINKING_TASKS = {f"think_{task}": share for task, share in VERIFIABLE_TASKS.items()}


def pick(rng: np.random.Generator, pool: tuple[str, ...]) -> str:
    return pool[int(rng.integers(0, len(pool)))]


def pick_task(rng: np.random.Generator, tasks: dict[str, float]) -> str:
    names = list(tasks)
    return names[int(rng.choice(len(names), p=np.array(list(tasks.values())) / sum(tasks.values())))]


def pair_messages(rng: np.random.Generator, pair: DrawnPair, task: str) -> list[dict[str, str]]:
    """The conversation of `task` about a pair: messages with `role` and `content`, both `<image>` in the first."""
    defective = pair.kind is not None
    found = wording.boxes_text(pair.boxes, pair.kind) if defective else "[]"
    if task == "inspect":
        turns = [(pick(rng, wording.ASK_INSPECT), verdict_answer(defective, found))]
    elif task == "question":
        turns = [(pick(rng, wording.ASK_DEFECT), verdict_answer(defective))]
    elif task == "normal":
        turns = [(pick(rng, wording.ASK_SAME), "It is not." if defective else "It is.")]
    elif task == "dialogue":
        turns = [(pick(rng, wording.ASK_DEFECT), verdict_answer(defective))]
        turns.append((pick(rng, wording.ASK_WHERE), found if defective else wording.NOTHING))
        what = wording.defect_sentence(pair.kind, pair.part) if defective else wording.NOTHING
        turns.append((pick(rng, wording.ASK_WHAT), what))
    elif task == "locate":
        turns = [(pick(rng, wording.ASK_LOCATE), found)]
    elif task == "choice":
        options, answer = choice_options(rng, pair.kind)
        turns = [(wording.ASK_CHOICE + option_lines(options), answer)]
    elif task == "judge":
        # In this order always, as benchmarks have it.
        turns = [(pick(rng, wording.ASK_DEFECT) + option_lines([wording.YES, wording.NO]), "A" if defective else "B")]
    elif task == "caption":
        turns = [(pick(rng, wording.ASK_CAPTION), caption(pair))]
    elif task in THINKING_TASKS:
        [(question, answer)] = _turns(pair_messages(rng, pair, task.removeprefix("think_")))
        seen = wording.defect_sentence(pair.kind, pair.part) if defective else wording.NOTHING
        reason = f"{wording.YES if defective else wording.NO}. {seen}"
        turns = [(thinking_question(question), thinking_answer(reason, answer))]
    else:
        raise ValueError(f"task is {task!r}, expected one of {[*TASKS, *VERIFIABLE_TASKS, *THINKING_TASKS]}")
    return as_messages(turns, images=2)


def _turns(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    """The reverse of `as_messages`."""
    texts = [message["content"].replace("<image>", "") for message in messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


def option_lines(options: list[str]) -> str:
    return "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))


def choice_options(rng: np.random.Generator, kind: str | None) -> tuple[list[str], str]:
    """Four options, "none" among them, and the letter of the true one."""
    truth = kind or "none"
    others = [k for k in KINDS if k != truth]
    options = [others[int(k)] for k in rng.choice(len(others), size=3 if truth == "none" else 2, replace=False)]
    options = [*options, "none"] if truth == "none" else [*options, truth, "none"]
    options = [options[int(k)] for k in rng.permutation(4)]
    return options, "ABCD"[options.index(truth)]


def caption(pair: DrawnPair) -> str:
    """The contrastive caption of the paper's Figure 1, as JSON."""
    name = pair.category.replace("_", " ")
    details = [{"bbox_2d": box, "label": pair.kind} for box in pair.boxes]
    said = wording.defect_sentence(pair.kind, pair.part) if pair.kind else wording.NOTHING
    return json.dumps(
        {
            "description": f"Two images of {wording.article(name)}.",
            "defect_details": details,
            "defect_description": said,
        }
    )


def as_messages(turns: list[tuple[str, str]], *, images: int) -> list[dict[str, str]]:
    messages = []
    for k, (question, answer) in enumerate(turns):
        messages.append({"role": "user", "content": ("<image>" * images if k == 0 else "") + question})
        messages.append({"role": "assistant", "content": answer})
    return messages
