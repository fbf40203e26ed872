"""The chat model of LlamaFactory's pages: which images go with which turn, and in whose pixels boxes are."""

import asyncio
from threading import Thread
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from adcopilot.llamafactory.mm_plugin import size_for_model

SETTINGS = (64, 0.7, 0.95, True, True, True)  # max_new_tokens, top_p, temperature, skip, escape, thinking


@pytest.fixture
def chat(lf, llamafactory):
    """A `ComparingChatModel` whose engine is told what to say, and remembers what it was asked."""
    from adcopilot.llamafactory.webui.webchat_model import ComparingChatModel

    class Engine:
        template, processor = lf.encoder().template, lf.processor

        def __init__(self):
            self.asked, self.says = [], []

        async def stream_chat(self, messages, system, tools, images, *_, **__):
            self.asked.append((messages, images))
            says = self.says.pop(0)
            if isinstance(says, Exception):
                raise says
            for piece in says.split(" "):
                yield piece + " "

    model = ComparingChatModel(manager=None)
    model.engine = Engine()
    model._loop = asyncio.new_event_loop()
    thread = Thread(target=model._loop.run_forever, daemon=True)
    thread.start()
    yield model
    model._loop.call_soon_threadsafe(model._loop.stop)
    thread.join(10)


def gallery(*paths) -> list[dict]:
    return [{"image": {"path": path}, "caption": None} for path in paths]


def turn(chat, text, images, answer, *, chatbot=(), messages=()):
    """One question and its answer as the page's events call them; (what is shown, what is told next time)."""
    chat.engine.says[:] = [answer]
    chatbot, messages = chat.ask(list(chatbot), list(messages), "user", text, True, images)
    shown = [(chatbot, messages, None)]
    shown += chat.answer(chatbot, messages, text, "en", "", "", *SETTINGS)
    return shown[-1][:2]


def texts(chatbot) -> list[str]:
    return [one["content"] for one in chatbot if isinstance(one["content"], str)]


def test_images_stay_with_their_turn_and_are_not_sent_twice(chat, image_files):
    pair = image_files[:2]
    chatbot, messages = turn(chat, "Same?", pair, "No.")
    chatbot, messages = turn(chat, "Why?", pair, "Look.", chatbot=chatbot, messages=messages)
    (first, images), (second, again) = chat.engine.asked
    assert first == [{"role": "user", "content": "<image><image>Same?"}]
    assert [one["content"] for one in second] == ["<image><image>Same?", "No. ", "Why?"]
    assert images == again == pair
    assert texts(chatbot) == ["Same?", "No. ", "Why?", "Look. "]


def test_a_changed_slot_sends_all_images_again(chat, image_files):
    chatbot, messages = turn(chat, "Same?", image_files[:2], "No.")
    other = [image_files[0], image_files[2]]
    turn(chat, "And this?", other, "Yes.", chatbot=chatbot, messages=messages)
    sent, images = chat.engine.asked[-1]
    assert sent[-1]["content"] == "<image><image>And this?"
    assert images == image_files[:2] + other


def test_no_image_at_all_and_emptied_slots(chat, image_files):
    chatbot, messages = turn(chat, "Hi.", [], "Hello.")
    assert chat.engine.asked[-1] == ([{"role": "user", "content": "Hi."}], None)
    chatbot, messages = turn(chat, "Look.", image_files[:1], "Yes.", chatbot=chatbot, messages=messages)
    turn(chat, "Why?", [], "So.", chatbot=chatbot, messages=messages)
    sent, images = chat.engine.asked[-1]
    assert [one["content"] for one in sent] == ["Hi.", "Hello. ", "<image>Look.", "Yes. ", "Why?"]
    assert images == image_files[:1]


def test_boxes_are_the_images_on_the_page_and_the_models_in_what_it_is_told(chat, tmp_path):
    path = str(tmp_path / "query.png")
    Image.new("RGB", (150, 110), "white").save(path)
    assert size_for_model((150, 110), chat.engine.processor) == (140, 112)
    asked = 'Is {"bbox_2d": [45, 28, 90, 55]} a scratch?'
    answer = 'Yes. {"bbox_2d": [42, 28, 84, 56], "label": "a < b"}'
    chatbot, messages = turn(chat, asked, [path], answer)
    assert chat.engine.asked[0][0][0]["content"] == '<image>Is {"bbox_2d": [42, 29, 84, 56]} a scratch?'
    assert messages[-1]["content"].strip() == answer
    assert texts(chatbot) == [asked, 'Yes. {"bbox_2d": [45, 28, 90, 55], "label": "a &lt; b"} ']
    drawn = Image.open(chatbot[-1]["content"]["path"])
    assert drawn.size == (448, round(110 * 448 / 150))
    assert drawn.getpixel((round(45 * 448 / 150), round(40 * 448 / 150))) == (230, 30, 60)


@pytest.mark.parametrize("between", ["", "\n"])  # as this package's thinking data has it, and as LlamaFactory
def test_boxes_in_the_reasoning_are_not_drawn(chat, image_files, between):
    reasoning = 'Perhaps {"bbox_2d": [1, 1, 20, 20], "label": "dent"}?'
    thought = f"<think>{between}{reasoning}{between}</think>{between * 2}"
    chatbot, _ = turn(chat, "Same?", image_files[:2], thought + "Yes, the same.")
    assert len(chatbot) == 3  # images, question, answer
    assert "dent" in chatbot[-1]["content"]
    chatbot, _ = turn(chat, "Same?", image_files[:2], thought + '{"bbox_2d": [2, 2, 30, 30], "label": "nick"}')
    assert chatbot[-1]["content"]["alt_text"] == "1.png: nick"
    chatbot, _ = turn(chat, "Same?", image_files[:2], f"<think>{between}{reasoning}")  # cut off
    assert len(chatbot) == 3


def test_an_engine_that_fails_takes_the_question_back(chat, image_files):
    chatbot, messages = turn(chat, "Same?", image_files[:2], "No.")
    chat.engine.says[:] = [ValueError("the cable\nwas cut")]
    asked, told = chat.ask(chatbot, messages, "user", "And now?", True, image_files[1:3])
    answer = chat.answer(asked, told, "And now?", "en", "", "", *SETTINGS)
    assert next(answer) == (chatbot, messages, "And now?")
    with pytest.raises(gr.Error, match="No answer: the cable was cut"):
        next(answer)


def test_what_is_wrong_with_the_slots_is_told_in_words(chat, image_files, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    long = tmp_path / "long.png"
    Image.new("RGB", (9000, 10)).save(long)
    good = image_files[0]
    assert chat.look(gallery(good), {"path": image_files[1]}) == image_files[:2]
    assert chat.look(None, {"path": good}) == [good]
    assert chat.look(None, None) == []
    with pytest.raises(gr.Error, match="no query image"):
        chat.look(gallery(good), None)
    with pytest.raises(gr.Error, match=r"^'?notes\.png: damaged at its start"):
        chat.look(gallery(str(text)), {"path": good})
    with pytest.raises(gr.Error, match=r"film\.mp4: no such image file"):
        chat.look([{"video": {"path": str(tmp_path / "film.mp4")}}], {"path": good})
    with pytest.raises(gr.Error, match="2 <image> for 1 new images"):
        chat.ask([], [], "user", "<image> or <image>?", True, [good])
    _, told = chat.ask([], [], "user", "Good: <image> Other: <image>", True, image_files[:2])
    assert told[-1]["content"] == "Good: <image> Other: <image>"


def test_other_models_messages_are_passed_on_as_they_are(chat, image_files):
    """LlamaFactory's engines write the image's mark into the message itself; that must reach the page's list."""
    chat.engine.says[:] = ["Yes."]
    messages = [{"role": "user", "content": "What?"}]
    assert "".join(chat.stream_chat(messages, images=image_files[:1])) == "Yes. "
    assert chat.engine.asked[-1][0] is messages
    assert chat.engine.asked[-1][1] == image_files[:1]


def test_compares_by_what_is_loaded(chat):
    from llamafactory.data.template import TEMPLATES

    assert chat.compares
    chat.engine = SimpleNamespace(template=TEMPLATES["qwen2_vl"])
    assert not chat.compares
    chat.engine = None
    assert not chat.compares


def test_settings_are_given_by_name(chat, monkeypatch):
    """LlamaFactory's main has them in another order, and forks give further results."""
    from llamafactory.webui.chatter import WebChatModel

    given = {}

    def stream(
        self, audio, video, image, enable_thinking, temperature, top_p, chatbot, messages, tools, system, lang,
        escape_html, skip_special_tokens, max_new_tokens,
    ):  # fmt: skip
        given.update(max_new_tokens=max_new_tokens, top_p=top_p, temperature=temperature, lang=lang)
        told = [*messages, {"role": "assistant", "content": "No."}]
        yield [*chatbot, {"role": "assistant", "content": "No."}], told, "a trace"

    monkeypatch.setattr(WebChatModel, "stream", stream)
    _, told = turn(chat, "Is there a defect?", [], "")
    assert told[-1]["content"] == "No."
    assert given == {"max_new_tokens": 64, "top_p": 0.7, "temperature": 0.95, "lang": "en"}
