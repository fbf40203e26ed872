"""Prompts that training data, `adcopilot inspect` and the demo must share word for word."""

#: The question `adcopilot inspect` asks about a template and a query. An answer starts with one of `ANSWER_WORDS`,
#: so the probability of its first word ranks images by how anomalous they are.
INSPECT_QUESTION = "Is there a defect in the second image? If yes, list the boxes."

#: The two first words an answer to `INSPECT_QUESTION` may start with: (anomalous, normal).
ANSWER_WORDS = ("Yes", "No")


def verdict_answer(anomalous: bool, found: str = "") -> str:
    """An answer to `INSPECT_QUESTION`.

    Args:
        anomalous: whether there is a defect.
        found: what stands behind the `Yes.`: the JSON list of boxes, or words where no boxes are known.

    Returns:
        `No.`, `Yes.`, or `Yes. ` and what was found.
    """
    yes, no = ANSWER_WORDS
    return " ".join(filter(None, [f"{yes}.", found])) if anomalous else f"{no}."


#: Follows a question that is to be answered after reasoning. The reward for the format (GRPO) and the thinking data
#: of Chat-AD both mean this form.
THINK_INSTRUCTION = "First reason in <think></think>, then give the final answer in <answer></answer>."


def thinking_question(question: str) -> str:
    """A question that asks for reasoning before its answer."""
    return f"{question}\n{THINK_INSTRUCTION}"


def thinking_answer(reasoning: str, answer: str) -> str:
    """`<think>…</think><answer>…</answer>`."""
    return f"<think>{reasoning}</think><answer>{answer}</answer>"
