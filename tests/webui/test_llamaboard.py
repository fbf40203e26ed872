"""Stock LlamaBoard in a real browser: AD-Copilot is offered, its command is previewed, a tiny run trains and ends."""

import json
import math
import os

import pytest
import yaml

pytest.importorskip("llamafactory", reason="needs LlamaFactory: the extra train")
pytest.importorskip("gradio", reason="needs gradio, which LlamaFactory installs")
pytest.importorskip("selenium", reason="needs selenium: the extra dev")

from llamafactory.extras.misc import is_accelerator_available

from .page import Page
from .serving import served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

# What a test alone wants; a CPU and where the pictures lie are the board's own business.
EXTRA = {"max_steps": 3, "logging_steps": 1, "gradient_accumulation_steps": 1}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a checkout: 6 pairs of images below `data`, named from there and registered at the top."""
    from adcopilot.dataset_info import add_entries, entry
    from adcopilot.sample.generate import SampleSplit, write_sample

    folder = tmp_path_factory.mktemp("llamaboard") / "board"
    write_sample(folder / "data/sample", [SampleSplit(name="pairs", count=6, number=1)], prefix="sample/")
    (folder / "data/sample/dataset_info.json").unlink()
    add_entries(folder / "dataset_info.json", {"pairs": entry("data/sample/pairs.jsonl")})
    for line in (records := (folder / "data/sample/pairs.jsonl").read_text().splitlines()):
        assert len(json.loads(line)["images"]) == 2
    assert len(records) == 6
    return folder


@pytest.fixture(scope="module")
def llamaboard(checkout):
    # LlamaBoard remembers the model's path, so the test that looks at the authors' comes first
    with served("webui", folder=checkout) as server:
        yield server


def command(page, part: str) -> list[str]:
    """The words of the command that the open tab previews; waits for one with this part."""
    page.press("Preview command")
    page.wait("the previewed command", lambda: part in page.text())
    return page.text()[page.text().index("llamafactory-cli train") :].replace("\\\n", " ").split()


def test_train_in_the_browser(llamaboard, chromium, adcopilot_dir):
    page = Page(driver=chromium, url=llamaboard.url)
    # AD-Copilot is offered, and choosing it brings its template and the authors' checkpoint
    page.choose_model("AD-Copilot", template="adcopilot")
    assert page.value("Model path") == "jiang-cc/AD-Copilot"
    page.choose("Chat template", "adcopilot")

    page.write("Model path", str(adcopilot_dir))
    assert page.value("Data dir") == "."
    page.add_choice("Dataset", "pairs")
    page.press("Extra configurations")
    page.write("Extra arguments", json.dumps(EXTRA))
    page.press("Extra configurations")
    page.write("Output dir", "first")

    words = " ".join(command(page, "--template adcopilot"))
    for argument in (f"--model_name_or_path {adcopilot_dir}", "--dataset pairs", "--trust_remote_code True"):
        assert argument in words
    assert "--media_dir data" in words
    if not is_accelerator_available():  # else bf16, the board's own choice, ends in a traceback
        assert "--use_cpu True" in words
        page.wait("the word about the CPU", lambda: "no GPU here, so use_cpu is set" in page.text())

    page.press("Start")
    page.wait("the end of training", lambda: any(w in page.text() for w in ("Finished.", "Failed.")), seconds=600)
    assert "Failed." not in page.text(), page.text()
    if folder := os.environ.get("ADCOPILOT_SCREENSHOTS"):
        chromium.set_window_size(1250, 1900)
        chromium.execute_script("window.scrollTo(0, 0)")
        chromium.save_screenshot(os.path.join(folder, "llamaboard.png"))

    output = llamaboard.folder / "saves" / "AD-Copilot" / "lora" / "first"
    ran = yaml.safe_load((output / "training_args.yaml").read_text())
    assert ran["template"] == "adcopilot"
    assert ran["model_name_or_path"] == str(adcopilot_dir)
    from safetensors.torch import load_file

    adapter = load_file(output / "adapter_model.safetensors")
    assert any("comparison_encoder" in name for name in adapter)
    assert any("language_model" in name for name in adapter)
    log = [json.loads(line) for line in (output / "trainer_log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == EXTRA["max_steps"]
    assert all(math.isfinite(loss) and loss > 0 for loss in losses), losses  # 0.0 is how NaN is logged

    # the adapter is offered on the other tabs
    page.add_choice("Checkpoint path", "first")
    page.tab("Evaluate & Predict")
    assert page.value("Data dir") == "."
    page.add_choice("Dataset", "pairs")
    words = " ".join(command(page, "--eval_dataset pairs"))
    saved = os.path.join("saves", "AD-Copilot", "lora", "first")
    for argument in (
        "--template adcopilot",
        f"--adapter_name_or_path {saved}",
        "--do_predict True",
        "--media_dir data",
    ):
        assert argument in words

    page.tab("Export")
    merged = llamaboard.folder / "merged"
    page.write("Export dir", str(merged))
    page.press("Export")
    page.wait("the end of the export", lambda: page.shows("Model exported."), seconds=300)
    config = json.loads((merged / "config.json").read_text())
    assert config["model_type"] == "adcopilot"
    assert (merged / "modeling.py").exists()  # loads elsewhere with trust_remote_code


def test_stage_0_can_be_set_on_the_board(llamaboard, chromium, adcopilot_dir):
    """Full training with everything frozen but the comparison encoder."""
    page = Page(driver=chromium, url=llamaboard.url)
    page.choose_model("AD-Copilot", template="adcopilot")
    page.write("Model path", str(adcopilot_dir))
    page.choose("Finetuning method", "full")
    page.add_choice("Dataset", "pairs")
    page.press("Multimodal configurations")
    for switch in ("Freeze vision tower", "Freeze multi-modal projector", "Freeze language model"):
        page.check(switch, on=True)
    page.write("Image max pixels", "2800*2800")
    if folder := os.environ.get("ADCOPILOT_SCREENSHOTS"):
        chromium.save_screenshot(os.path.join(folder, "llamaboard-stage0.png"))
    words = command(page, "--freeze_language_model True")
    given = {words[i]: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("--")}
    flags = ("vision_tower", "multi_modal_projector", "language_model")
    assert [given[f"--freeze_{flag}"] for flag in flags] == ["True"] * 3
    assert given["--finetuning_type"] == "full"
    assert given["--template"] == "adcopilot"
    assert given["--image_max_pixels"] == str(2800 * 2800)
