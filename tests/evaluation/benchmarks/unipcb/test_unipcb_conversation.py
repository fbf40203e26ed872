"""UniPCB's questions about an image as one conversation: what is sent, what goes on after a stop, and errors."""

import json

from adcopilot import cli
from adcopilot.answering.base import Reply
from adcopilot.answering.families import FAMILIES
from adcopilot.answering.items import Item, chat_messages
from adcopilot.evaluation.backends.prompting import prompt_text
from adcopilot.evaluation.conversation import Conversation
from adcopilot.evaluation.run_folder import read_records

from ...backends.endpoint import Endpoint, completion

FIXED = ("--sbert", "none", "--bertscore", "none")


class Scripted:
    """Answers with the number of its call; fails for keys in `broken`, stops the process's work after `most`."""

    name, family = "scripted", FAMILIES["generic"]

    def __init__(self, *, broken=(), most=1000):
        self.broken, self.most, self.calls = broken, most, []

    def describe(self):
        return {"model": "scripted"}

    def model_size(self, size):
        return size

    def answer(self, items, *, max_new_tokens):
        for item in items:
            if len(self.calls) == self.most:
                raise KeyboardInterrupt
            self.calls.append(item)
            broken = item.key in self.broken
            yield item, Reply(error="broken") if broken else Reply(text=f"answer {item.key}")


def make_items():
    """Two conversations of three and two questions."""
    return [
        Item(key=f"{group}{turn}", group=group, images=(), prefix=("Look. ",), question=f"Question {group}{turn}?")
        for group, turns in (("a", 3), ("b", 2))
        for turn in range(turns)
    ]


def ask(backend, items, *, answers=()):
    conversation = Conversation(backend=backend, items=make_items(), answers=dict(answers))
    return {item.key: reply for item, reply in conversation.answer(items, max_new_tokens=1)}


def test_each_question_comes_with_what_was_said_before():
    backend = Scripted()
    items = make_items()
    replies = ask(backend, items)
    assert [item.key for item in backend.calls] == ["a0", "b0", "a1", "b1", "a2"]
    assert {key: reply.text for key, reply in replies.items()} == {item.key: f"answer {item.key}" for item in items}
    histories = {item.key: item.history for item in backend.calls}
    assert histories["a0"] == histories["b0"] == ()
    assert histories["a2"] == (("Question a0?", "answer a0"), ("Question a1?", "answer a1"))
    assert histories["b1"] == (("Question b0?", "answer b0"),)


def test_an_earlier_start_s_answers_are_the_history():
    backend = Scripted()
    missing = [item for item in make_items() if item.key in ("a1", "a2")]
    ask(backend, missing[::-1], answers={"a0": "told before"})
    assert [item.history[0] for item in backend.calls] == [("Question a0?", "told before")] * 2
    assert backend.calls[1].history[1] == ("Question a1?", "answer a1")


def test_after_a_question_without_an_answer_the_rest_waits():
    backend = Scripted(broken={"a0"})
    replies = ask(backend, make_items())
    assert [item.key for item in backend.calls] == ["a0", "b0", "b1"]
    assert replies["a0"].error == "broken"
    assert "earlier question of its conversation has no answer" in replies["a1"].error
    assert replies["a2"].error == replies["a1"].error
    assert replies["b1"].error is None
    # The last question of a conversation alone, its first never answered.
    assert ask(Scripted(), make_items()[2:3])["a2"].error is not None


def test_what_follows_a_refused_question_is_refused(tmp_path):
    """It could never be asked as the benchmark asks it; asked again on request, the conversation goes on."""

    class Declining(Scripted):
        def answer(self, items, *, max_new_tokens):
            for item, reply in super().answer(items, max_new_tokens=max_new_tokens):
                yield item, Reply(error="no", refused=True) if reply.error else reply

    replies = ask(Declining(broken={"a1"}), make_items())
    assert {key for key, reply in replies.items() if reply.refused} == {"a1", "a2"}
    assert replies["a2"].error == "an earlier question of its conversation was refused"
    lines = [{"key": key, "item": key, "reply": {"text": ""}} for key in ("a0", "a1")]
    for name, line in zip(("answers", "refused"), lines, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    backend = Scripted()
    going_on = Conversation.going_on(backend=backend, items=make_items(), folder=tmp_path)
    (after,) = dict(going_on.answer([make_items()[2]], max_new_tokens=1)).values()
    assert after.refused
    again = dict(going_on.answer(make_items()[1:3], max_new_tokens=1))
    assert [reply.error for reply in again.values()] == [None, None]
    assert [item.key for item in backend.calls] == ["a1", "a2"]


def test_the_turns_of_a_prompt(adcopilot_dir):
    from adcopilot.model import AdCopilotProcessor

    item = Item(key="k", group="g", images=("1.png", "2.png"), prefix=("See:", 0, 1, "\n"), question="And now?",
                history=(("First <|image_pad|>?", "Yes."), ("Second?", "No <|compare_pad|>.")))  # fmt: skip
    assert [role for role, _ in chat_messages(item)] == ["user", "assistant"] * 2 + ["user"]
    text = prompt_text(item, AdCopilotProcessor.from_pretrained(adcopilot_dir))
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert text.endswith(
        f"<|im_start|>user\nSee:{image}{image}\nFirst <|\u200bimage_pad|>?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nSecond?<|im_end|>\n"
        "<|im_start|>assistant\nNo <|\u200bcompare_pad|>.<|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    )


def evaluate(root, run, *options):
    words = ["eval", "unipcb", "--data-root", root, "--output", run, "--max-lost", "1", *FIXED, *options]
    return cli.main([str(word) for word in words])


def test_what_an_endpoint_gets(root, tmp_path):
    bodies = []

    def answer(body, number):
        bodies.append(body)
        return completion(f"I say {number}.")

    with Endpoint(answer) as endpoint:
        options = ("--model", "m", "--backend", "api", "--base-url", endpoint.url)
        assert evaluate(root, tmp_path / "run", *options) == 0
        assert len(bodies) == 17
        talk = max((body["messages"] for body in bodies), key=len)
        # The VisA sample: four questions, the image in the first alone, all its own answers in between.
        assert [message["role"] for message in talk] == ["user", "assistant"] * 3 + ["user"]
        kinds = [[part["type"] for part in message["content"]] for message in talk if message["role"] == "user"]
        assert kinds == [["image_url", "text", "text"], ["text"], ["text"], ["text"]]
        said = [message["content"] for message in talk if message["role"] == "assistant"]
        by_turn = {record["meta"]["turn"]: record["reply"]["text"] for record in read_records(tmp_path / "run")
                   if record["meta"]["dataset"] == "VisA"}  # fmt: skip
        assert said == [by_turn[turn] for turn in range(3)]
        bodies.clear()
        assert evaluate(root, tmp_path / "alone", *options, "--alone") == 0
        assert {len(body["messages"]) for body in bodies} == {1}
        # The two kinds of run do not mix.
        assert evaluate(root, tmp_path / "run", *options, "--alone") == 2


def test_with_the_tiny_model_and_after_a_stop(root, adcopilot_dir, tmp_path):
    """The same answers in one go, and by a run that was stopped in the middle."""
    model = ("--model", adcopilot_dir, "--max-new-tokens", "5")
    assert evaluate(root, tmp_path / "whole", *model) == 0
    texts = {record["item"]: record["reply"]["text"] for record in read_records(tmp_path / "whole")}
    assert len(texts) == 17
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    lines = (tmp_path / "whole/answers.jsonl").read_text().splitlines(keepends=True)
    (stopped / "answers.jsonl").write_text("".join(lines[:9]))
    (stopped / "manifest.json").write_text((tmp_path / "whole/manifest.json").read_text())
    assert evaluate(root, stopped, *model) == 0
    assert {record["item"]: record["reply"]["text"] for record in read_records(stopped)} == texts
    assert json.loads((stopped / "results.json").read_text())["answered"] == 17
