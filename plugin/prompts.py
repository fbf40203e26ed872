"""Prompts that training data, `adcopilot inspect` and the demo must share word for word."""

#: The question `adcopilot inspect` asks about a template and a query. An answer starts with one of `ANSWER_WORDS`,
#: so the probability of its first word ranks images by how anomalous they are.
INSPECT_QUESTION = "Is there a defect in the second image? If yes, list the boxes."

#: The two first words an answer to `INSPECT_QUESTION` may start with: (anomalous, normal).
ANSWER_WORDS = ("Yes", "No")
