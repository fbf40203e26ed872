"""One folder under every version of transformers: the same answers, by the installed code and by the folder's own.

`answers-4.57.6.json` holds what the bundled tiny model answers under transformers 4.57.6; whatever version runs these
tests is held against it. To renew it (after a change of the tiny base or of the answers asked for), run there:
`python tests/model/answers.py FOLDER`, FOLDER made by the fixture below.
"""

import json
import logging
from pathlib import Path

import pytest
import torch

from .answers import answers

pytestmark = pytest.mark.forward

HERE = Path(__file__).parent
EXPECTED = HERE / "answers-4.57.6.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny preset with weights of the encoder large enough to matter, saved as an export is."""
    from adcopilot.model import AdCopilotForConditionalGeneration, AdCopilotProcessor
    from adcopilot.model.conversion import convert
    from adcopilot.model.init_command import PRESETS

    made, saved = tmp_path_factory.mktemp("made") / "model", tmp_path_factory.mktemp("saved")
    convert(base=Path(PRESETS["tiny"].base), output=made, **PRESETS["tiny"].options)
    model = AdCopilotForConditionalGeneration.from_pretrained(made, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.comparison_encoder.named_parameters():
            if weight.dim() > 1:
                weight.normal_(std=1.0 if "queries" in name else 0.15, generator=generator)
    model.save_pretrained(saved)
    AdCopilotProcessor.from_pretrained(made).save_pretrained(saved)
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
    result = nursery.run(folder, code=code, env=alone)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found.pop("module").startswith("transformers_modules.")
    return found


def test_answers_by_the_installed_code(folder):
    from adcopilot.model import AdCopilotForConditionalGeneration, AdCopilotProcessor

    model = AdCopilotForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    same(answers(model, AdCopilotProcessor.from_pretrained(folder)), json.loads(EXPECTED.read_text()))


def test_answers_by_the_folders_own_code(nursery, folder):
    same(by_its_own_code(nursery, folder), json.loads(EXPECTED.read_text()))


def test_what_is_written_is_what_all_versions_read(folder):
    """Saved by whatever version runs this: rotary positions and special tokens as transformers 4 has them."""
    from adcopilot import __version__
    from adcopilot.model.configuration import TRANSFORMERS_TRIED

    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"]
    assert "rope_parameters" not in text
    assert text["rope_theta"] == 10.0
    assert text["rope_scaling"]["type"] == text["rope_scaling"]["rope_type"] == "default"
    assert len(text["rope_scaling"]["mrope_section"]) == 3
    assert config["adcopilot_version"] == __version__
    assert config["transformers_tried"] == list(TRANSFORMERS_TRIED)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert not isinstance(tokenizer.get("extra_special_tokens"), list)


def test_saved_again_it_stays_the_same(folder, tmp_path):
    from adcopilot.model import AdCopilotConfig

    config = AdCopilotConfig.from_pretrained(folder)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == json.loads((folder / "config.json").read_text())


def test_nothing_is_said_on_loading(folder):
    """No warning on each load, of token ids outside of the vocabulary or else."""
    from adcopilot.model import AdCopilotForConditionalGeneration

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
    from adcopilot.model import AdCopilotConfig, AdCopilotForConditionalGeneration, modeling

    said = []
    monkeypatch.setattr(modeling.logger, "warning_once", said.append)
    config = AdCopilotConfig.from_pretrained(folder)
    with torch.device("meta"):
        AdCopilotForConditionalGeneration(config)
        assert said == []
        monkeypatch.setattr(modeling.transformers, "__version__", "9.0.0")
        AdCopilotForConditionalGeneration(config)
    assert len(said) == 1
    assert "tried with transformers up to" in said[0]
    assert "found 9.0.0" in said[0]
    assert "\n" not in said[0]
