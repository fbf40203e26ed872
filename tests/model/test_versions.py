"""One folder under every version of transformers: the same answers, by the installed code and by the folder's own.

`answers-4.57.6.json` holds what the bundled tiny model answers under transformers 4.57.6; whatever version runs these
tests is held against it. To renew it (after a change of the tiny base or of the answers asked for), run there:
`python tests/model/answers.py FOLDER`, FOLDER made there by `python tests/model/exported.py FOLDER`.
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from adcopilot import __version__
from adcopilot.model import AdCopilotConfig, AdCopilotForConditionalGeneration, AdCopilotProcessor, upstream
from adcopilot.model.configuration import TRANSFORMERS_TRIED

from .answers import answers
from .exported import export

pytestmark = pytest.mark.forward

HERE = Path(__file__).parent
EXPECTED = HERE / "answers-4.57.6.json"
#: Where `make setup`, `make setup-forward` and `make setup-latest` put what they make.
ENVIRONMENTS = (".venv", ".venv-forward", ".venv-latest")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made by the transformers that run this test."""
    saved = tmp_path_factory.mktemp("saved")
    export(saved)
    return saved


def same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name.startswith("logits"):
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(value), rtol=0, atol=1e-4, msg=name)
        else:
            assert found[name] == value, name


def by_its_own_code(nursery, folder) -> dict:
    alone = {"ADCOPILOT_PLUGIN": "0", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    code = f"import runpy; runpy.run_path({str(HERE / 'answers.py')!r}, run_name='__main__')"
    found = json.loads(nursery.said(folder, code=code, env=alone))
    assert found.pop("module").startswith("transformers_modules.")
    return found


def test_answers_by_the_installed_code(folder):
    model = AdCopilotForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    same(answers(model, AdCopilotProcessor.from_pretrained(folder)), json.loads(EXPECTED.read_text()))


def test_answers_by_the_folders_own_code(nursery, folder):
    same(by_its_own_code(nursery, folder), json.loads(EXPECTED.read_text()))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_folder_made_in_another_environment(nursery, environment, tmp_path, project_root):
    """As the owner of an export does: made where training is, loaded beside whatever transformers is there."""
    python = project_root / environment / "bin" / "python"
    if not (python.parents[1] / "adcopilot.stamp").exists():  # an interrupted set-up leaves none
        pytest.skip(f"needs the environment {environment}, which `make setup…` makes")
    if python.parents[1] == Path(sys.prefix):
        pytest.skip("is this environment: see the tests above")
    quiet = {**os.environ, "ADCOPILOT_PLUGIN": "0"}
    command = [python, HERE / "exported.py", tmp_path / "made"]
    made = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    same(by_its_own_code(nursery, tmp_path / "made"), json.loads(EXPECTED.read_text()))


def test_what_is_written_is_what_all_versions_read(folder):
    """Saved by whatever version runs this: rotary positions, special tokens and names of weights as transformers 4 has
    them."""
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"]
    assert "rope_parameters" not in text
    assert text["rope_theta"] == 10.0
    assert text["rope_scaling"]["type"] == text["rope_scaling"]["rope_type"] == "default"
    assert len(text["rope_scaling"]["mrope_section"]) == 3
    assert config["adcopilot_version"] == __version__
    assert config["transformers_tried"] == list(TRANSFORMERS_TRIED)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        names = {name.rpartition(".layers.")[0] for name in weights.keys() if ".layers." in name}
    assert names == {"model.language_model"}
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert not isinstance(tokenizer.get("extra_special_tokens"), list)


def test_saved_again_it_stays_the_same(folder, tmp_path):
    config = AdCopilotConfig.from_pretrained(folder)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == json.loads((folder / "config.json").read_text())


def test_nothing_is_said_on_loading(folder):
    """No warning on each load, of token ids outside of the vocabulary or else."""
    said = []
    logger = logging.getLogger("transformers")
    handler = logging.Handler()
    handler.emit = said.append
    logger.addHandler(handler)
    try:
        AdCopilotForConditionalGeneration.from_pretrained(folder)
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said if record.levelname in ("WARNING", "ERROR")] == []


def test_beyond_the_newest_version_tried_it_is_said_once(folder, monkeypatch):
    said = []
    monkeypatch.setattr(upstream.logger, "warning_once", said.append)
    config = AdCopilotConfig.from_pretrained(folder)
    with torch.device("meta"):
        AdCopilotForConditionalGeneration(config)
        assert said == []
        monkeypatch.setattr(upstream.transformers, "__version__", "9.0.0")
        AdCopilotForConditionalGeneration(config)
    assert len(said) == 1
    assert "tried with transformers up to" in said[0]
    assert "found 9.0.0" in said[0]
    assert "\n" not in said[0]
