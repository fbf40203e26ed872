"""ModelInspector: images, prompt and boxes as in training; scores; the same results whatever the batch."""

import json
import re
import shutil

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from adcopilot.anomaly_map.comparing import MapSettings
from adcopilot.boxes import boxes_in_image
from adcopilot.errors import UserError
from adcopilot.inspect import Question
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.loading import check_folder, model_digest
from adcopilot.inspect.model_inspector import ModelInspector, answer_tokens

from ..helpers.model_folders import change_json, damage
from ..helpers.refusals import refused
from .conftest import llamafactory_of, part

pytestmark = pytest.mark.forward


def pairs():
    sizes = [(84, 56), (120, 90), (56, 56), (300, 40), (84, 56), (90, 200)]
    return [(part(k, size=sizes[-k]), part(k, size=size, defect=True)) for k, size in enumerate(sizes)]


def test_batches_of_any_size_give_the_same_results(inspector):
    runs = []
    for size in (1, 4, 6):
        inspector.batch_size = size
        runs.append(list(inspector.inspect_many(pairs())))
    inspector.batch_size = 4
    assert len({result.text for result in runs[0]}) > 1, "the model must say different things for this to mean much"
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            assert (one.text, one.boxes, one.anomalous, one.size) == (
                other.text,
                other.boxes,
                other.anomalous,
                other.size,
            )
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_score_is_yes_against_no_at_the_first_token(inspector):
    pair = pairs()[1]
    [result] = inspector.inspect_many([pair])
    prepared = [inspector._prepare(inspector.pair_question(*pair))]
    with torch.no_grad():
        logits = inspector.model(**inspector.encode(prepared)).logits[0, -1]
    probabilities = logits.softmax(-1)
    yes, no = answer_tokens(inspector.processor.tokenizer)
    assert inspector.processor.tokenizer.encode("Yes")[0] in yes
    assert inspector.processor.tokenizer.encode("No")[0] in no
    assert not set(yes) & set(no)
    mass = probabilities[yes].sum() + probabilities[no].sum()
    assert result.score == pytest.approx(float(probabilities[yes].sum() / mass), abs=1e-5)
    assert result.yes_no_mass == pytest.approx(float(mass), rel=1e-2, abs=1e-6)
    assert (result.anomalous, result.verdict) == (None, "undecided")  # the mass is small


def test_threshold_decides(deciding_dir):
    inspector = ModelInspector(model=deciding_dir, device="cpu", max_new_tokens=1)
    [result] = inspector.inspect_many(pairs()[:1])
    found = []
    for threshold in (min(1.0, result.score + 1e-3), max(0.0, result.score - 1e-3)):
        inspector.judge = Judge(model_threshold=threshold)
        found += inspector.inspect_many(pairs()[:1])
    assert [one.anomalous for one in found] == [False, True]


def test_real_tokenizer_has_all_variants(qwen_tokenizer_dir):
    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer_dir)
    yes, no = answer_tokens(tokenizer)
    assert {tokenizer.decode([token]) for token in yes} == {"Yes", "yes", "YES", " Yes", " yes", " YES"}
    assert {tokenizer.decode([token]) for token in no} == {"No", "no", "NO", " No", " no", " NO"}


@pytest.mark.parametrize(
    ("limits", "sizes"), [({}, [(1500, 900), (20, 33)]), ({"image_max_pixels": 9000}, [(300, 90)])]
)
def test_images_and_prompt_equal_llamafactorys(speaking_dir, tmp_path, limits, sizes):
    """Down to the last pixel value and token: what training shows the model is what it sees here."""
    loaded, template = llamafactory_of(speaking_dir, **limits)
    question = "Is <|image_pad|> or <|compare_pad|> a defect?"
    ours = ModelInspector(model=speaking_dir, device="cpu", question=question, **limits)
    for number, size in enumerate(sizes):
        files = [str(tmp_path / f"{number}{role}.png") for role in "tq"]
        part(1, size=(84, 56)).save(files[0])
        part(2, size=(max(size[0], 20), max(size[1], 20)), defect=True).resize(size).save(files[1])
        messages = [{"role": "user", "content": "<image><image>" + question}, {"role": "assistant", "content": ""}]
        processed = template.mm_plugin.process_messages(messages, files, [], [], loaded["processor"])
        prompt, _ = template.encode_oneturn(loaded["tokenizer"], processed)
        theirs = template.mm_plugin._get_mm_inputs(files, [], [], loaded["processor"])
        inputs = ours.encode([ours._prepare(ours.pair_question(*files))])
        assert inputs["input_ids"][0].tolist() == prompt
        assert torch.equal(inputs["image_grid_thw"], theirs["image_grid_thw"])
        assert torch.equal(inputs["pixel_values"], theirs["pixel_values"])
        width, height = ours.model_size(size)
        assert inputs["image_grid_thw"][1].tolist() == [1, height // 14, width // 14]


def test_pixel_limits_come_from_the_model_folder(adcopilot_dir, tmp_path):
    folder = shutil.copytree(adcopilot_dir, tmp_path / "model")
    file = folder / "processor_config.json"
    change_json(file, image_max_pixels=7840000)
    kept = ModelInspector(model=folder, device="cpu").settings()
    assert (kept["image_max_pixels"], kept["image_min_pixels"]) == (7840000, 1024)
    told = ModelInspector(model=folder, device="cpu", image_max_pixels=50000).settings()
    assert told["image_max_pixels"] == 50000
    assert ModelInspector(model=adcopilot_dir, device="cpu").settings()["image_max_pixels"] == 589824
    change_json(file, image_max_pixels="many")
    with pytest.raises(UserError, match=re.escape(f"{file}: image_max_pixels is 'many', expected a whole number of")):
        ModelInspector(model=folder, device="cpu")


def say(inspector, monkeypatch, text: str) -> None:
    """Let the model's tokens decode to `text`."""
    monkeypatch.setattr(inspector.greedy, "texts", lambda tokens: [text] * len(tokens))


def test_boxes_are_pixels_of_the_upright_original(inspector, monkeypatch, tmp_path):
    """A query of 1000×500 stored lying on its side: the model sees 1036×… pixels, the user sees 1000×500."""
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: the upright picture is the stored one rotated clockwise
    upright = part(1, size=(1600, 800))
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "q.jpg", exif=exif)
    width, height = inspector.model_size((1600, 800))
    assert (width, height) != (1600, 800)
    box = [round(width * 0.25), round(height * 0.25), round(width * 0.5), round(height * 0.75)]
    say(inspector, monkeypatch, f'Yes. [{{"bbox_2d": {box}, "label": "scratch"}}]')
    [result] = inspector.inspect_many([(part(1), tmp_path / "q.jpg")])
    assert result.size == (1600, 800)
    [found] = result.boxes
    assert found["label"] == "scratch"
    assert found["bbox_2d"] == pytest.approx([400, 200, 800, 600], abs=2)
    # the text tells the same pixels
    assert re.findall(r"\d+", result.text)[1:] == [str(value) for value in found["bbox_2d"]]


def test_boxes_stay_inside_the_image():
    text = """Yes. [{"bbox_2d": [-5, 10, 900, 20], "label": "wide"}, {"bbox_2d": [30, 40, 10, 20]},
        {"bbox_2d": [500, 500, 600, 600], "label": "outside"}, {"bbox_2d": [5, 5, 5, 9], "label": "empty"}]"""
    assert boxes_in_image(text, (112, 56), (1000, 500)) == [
        {"bbox_2d": [0, 89, 1000, 179], "label": "wide"},
        {"bbox_2d": [89, 179, 268, 357], "label": ""},
    ]


def test_pads_are_never_generated(inspector, monkeypatch):
    config = inspector.model.config
    pads = {config.image_token_id, config.video_token_id, config.comparison_token_id}
    seen = []
    monkeypatch.setattr(inspector.greedy, "texts", lambda tokens: seen.extend(tokens) or [""] * len(tokens))

    def favour(_module, _inputs, logits):
        logits[..., list(pads)] += 1e4

    hook = inspector.model.lm_head.register_forward_hook(favour)
    try:
        list(inspector.inspect_many(pairs()))
    finally:
        hook.remove()
    assert seen
    assert not pads & {token for tokens in seen for token in tokens}


def test_plain_qwen_is_inspected_too(qwen_base_dir):
    results = list(ModelInspector(model=qwen_base_dir, device="cpu", max_new_tokens=4).inspect_many(pairs()[:3]))
    assert all(result.error is None and 0 <= result.score <= 1 for result in results)


def test_tied_weights_of_a_folder_written_by_transformers_4(adcopilot_dir, tmp_path):
    """Such a folder says `tie_word_embeddings` in text_config alone; it has no lm_head to load."""
    folder = shutil.copytree(adcopilot_dir, tmp_path / "model")
    if not json.loads((folder / "config.json").read_text())["text_config"]["tie_word_embeddings"]:
        pytest.skip("the small checkpoint is not tied")
    change_json(folder / "config.json", without=["tie_word_embeddings"])
    model = ModelInspector(model=folder, device="cpu").model
    assert model.lm_head.weight is model.get_input_embeddings().weight


def truncate_weights(folder):
    file = sorted(folder.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:2000])


def forget_encoder(folder):
    """The folder's weights are stock Qwen2.5-VL's although its configuration says AD-Copilot."""
    index = folder / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    value["weight_map"] = {k: v for k, v in value["weight_map"].items() if "comparison" not in k}
    index.write_text(json.dumps(value))


BAD_FOLDERS = {
    "other model": (lambda folder: damage(folder, "config.json", {"model_type": "llava"}), "model_type is 'llava'"),
    "no config": (lambda folder: damage(folder, "config.json", None), "config.json: not found"),
    "bad config": (lambda folder: damage(folder, "config.json", "{"), "config.json: not JSON"),
    "no weights": (lambda folder: damage(folder, "*.safetensors*", None), "no weights, expected model.safetensors"),
    "lost shard": (lambda folder: sorted(folder.glob("*.safetensors"))[0].unlink(), "not found, but model.safet"),
    "truncated weights": (truncate_weights, "cannot be loaded"),
    "missing weights": (forget_encoder, "weights are missing, model.comparison_encoder."),
    "no tokenizer": (lambda folder: damage(folder, "*token*", None), "tokenizer cannot be loaded"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_unusable_folders_say_why_in_one_line(adcopilot_dir, tmp_path, case):
    folder = shutil.copytree(adcopilot_dir, tmp_path / "model")
    spoil, message = BAD_FOLDERS[case]
    spoil(folder)
    with refused(re.escape(message)) as error:
        ModelInspector(model=folder, device="cpu")
    assert str(folder) in str(error.value)


def test_an_adapter_is_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a LoRA adapter"):
        check_folder(tmp_path)
    with pytest.raises(UserError, match="no such model folder"):
        check_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"map": MapSettings(), "dtype": "int8"}, "--dtype is 'int8'"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"question": " "}, "--question is empty"),
        ({"device": "nowhere"}, "--device nowhere"),
        ({"image_max_pixels": 500}, "expected 0 < min <= max"),
        ({"image_min_pixels": -1}, "expected 0 < min <= max"),
    ],
)
def test_bad_options_say_why_in_one_line(adcopilot_dir, option, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ModelInspector(model=adcopilot_dir, **{"device": "cpu", **option})


def test_digest_is_of_content(adcopilot_dir, tmp_path):
    shutil.copytree(adcopilot_dir, tmp_path / "copy")
    assert model_digest(tmp_path / "copy") == model_digest(adcopilot_dir)
    file = sorted((tmp_path / "copy").glob("*.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert model_digest(tmp_path / "copy") != model_digest(adcopilot_dir)


def test_a_second_turn_equals_llamafactorys(inspector, speaking_dir, tmp_path):
    """The images stand in the first turn, three of them here, and the answer before is the model's own words."""
    loaded, template = llamafactory_of(speaking_dir)
    files = []
    for number in range(3):
        files.append(str(tmp_path / f"{number}.png"))
        part(number).save(files[-1])
    said = 'Yes. [{"bbox_2d": [1, 2, 30, 40], "label": "a <|image_pad|>"}]'
    question = Question(
        templates=tuple(files[:2]), query=files[2], text="What is it?", turns=(("Is there a defect?", said),)
    )
    messages = [
        {"role": "user", "content": "<image><image><image>Is there a defect?"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": ""},
    ]
    # A box of an earlier answer is in the model's own pixels already: LlamaFactory must not map it again.
    processed = template.mm_plugin.process_messages(messages, files, [], [], loaded["processor"])
    processed[1]["content"] = processed[1]["content"].replace(*_box_lists(processed[1]["content"], said))
    prompt, _ = template.encode_oneturn(loaded["tokenizer"], processed)
    assert inspector.encode([inspector._prepare(question)])["input_ids"][0].tolist() == prompt


def _box_lists(text: str, wanted: str) -> tuple[str, str]:
    return tuple(re.search(r"\[\d[^\]]*\]", one)[0] for one in (text, wanted))


def test_a_conversation_goes_on(inspector):
    """Turns, several templates and none are answered in one batch as alone, and each of them matters."""
    good, query = pairs()[1]
    first = Question(templates=(good,), query=query, text="Is there a defect?")
    [answer] = inspector.ask([first])
    questions = [
        first,
        Question(templates=(good,), query=query, text="What is it?", turns=((first.text, answer.answer),)),
        Question(templates=(part(3), good), query=query, text="Is there a defect?"),
        Question(templates=(), query=query, text="Is there a defect?"),
    ]
    together = list(inspector.ask(questions))
    alone = [next(inspector.ask([question])) for question in questions]
    assert [one.answer for one in together] == [one.answer for one in alone]
    scores = [one.score for one in alone]
    assert len(set(scores)) == 4, scores
    assert (together[0].template, together[3].template) == ("template", None)


def test_boxes_of_the_reasoning_are_no_findings(inspector, monkeypatch):
    weighed, found = ('[{"bbox_2d": [X, 5, 30, 40], "label": "scratch"}]'.replace("X", x) for x in ("1", "10"))
    say(inspector, monkeypatch, f"<think>At {weighed}?</think><answer>Yes. {found}</answer>")
    [result] = inspector.inspect_many([(part(1), part(2))])
    assert len(result.boxes) == 1
    assert result.text.count("bbox_2d") == 2
    assert "bbox_2d" in result.answer


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ('{"bbox_2d": [0.25, 0.5, 0.5, 1.0]}', [[50, 50, 100, 100]]),  # shares of the sides
        ('{"bbox_2d": [0, 0, 1, 1]}', []),  # the whole image or one pixel: nobody can tell
        ('{"bbox_2d": [10, 10, 20, 20]} {"bbox_2d": [0.1, 0.1, 0.2, 0.2]}', [[20, 20, 40, 40]]),
        ("<|box_start|>(10,10),(20,20)<|box_end|>", [[20, 20, 40, 40]]),
        ('{"bbox_2d": ["10", "10", "20", "20"]}', [[20, 20, 40, 40]]),
        ('{"bbox_2d": [[20, 20], [10, 10]]}', [[20, 20, 40, 40]]),
        ("<bbox>10 10 20 20", [[20, 20, 40, 40]]),
    ],
)
def test_boxes_of_an_answer_in_pixels_of_the_original(text, boxes):
    assert [found["bbox_2d"] for found in boxes_in_image(text, (100, 50), (200, 100))] == boxes
