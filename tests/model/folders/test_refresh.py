"""`adcopilot refresh`: old, broken and missing code of a folder mended, all else left as it is."""

import json
import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

from adcopilot import __version__
from adcopilot.cli import main
from adcopilot.model import add_fixture as step
from adcopilot.model import refresh_command
from adcopilot.model.check import FIXTURE
from adcopilot.model.configuration import AUTO_MAP, TRANSFORMERS_TRIED, rope_as_transformers_4
from adcopilot.model.folder_code import differing, todays_code

from ...helpers.model_folders import change_json, damage

pytestmark = pytest.mark.forward


@pytest.fixture
def folder(checked_dir, tmp_path):
    return shutil.copytree(checked_dir, tmp_path / "model")


@pytest.fixture
def refresh(command):
    """Runs the command on a folder."""
    return lambda folder: command("refresh", folder)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def make_old(folder) -> None:
    """As a version before wrote it: other code, a file less, fewer auto classes, no versions."""
    (folder / "modeling.py").write_text("from transformers import NoSuchClass\n")
    (folder / "processing.py").write_text("class Old:\n    pass\n")
    (folder / "pairing.py").unlink()
    auto_map = {"AutoConfig": "configuration.Old", "AutoModelForImageTextToText": AUTO_MAP["AutoModel"]}
    change_json(folder / "config.json", without=["transformers_tried"], auto_map=auto_map, adcopilot_version="0.0.1")
    change_json(folder / "processor_config.json", without=["auto_map"])
    change_json(folder / "tokenizer_config.json", auto_map={"AutoProcessor": "processing.Old"})


def test_a_fresh_export_has_nothing_to_change(refresh, folder):
    before = contents(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert differing(folder) == []
    assert refresh(folder) == (0, [f"{folder}: nothing to change"])
    assert contents(folder) == before
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_what_it_writes_is_what_an_export_writes(folder):
    assert {name for name in contents(folder) if name.endswith(".py")} == set(todays_code())


def test_an_old_folder_is_as_a_fresh_one_afterwards(refresh, folder):
    before = contents(folder)
    make_old(folder)
    code, lines = refresh(folder)
    assert code == 0
    said = dict(line.split(": ", 1) for line in lines[:-1])
    assert said[f"{folder / 'modeling.py'}"] == said[f"{folder / 'processing.py'}"] == "replaced by today's"
    assert said[f"{folder / 'pairing.py'}"] == "added"
    config = said[f"{folder / 'config.json'}"]
    assert config.startswith('auto_map was {"AutoConfig": "configuration.Old"')
    assert config.endswith('adcopilot_version was "0.0.1", transformers_tried was null; now today\'s')
    assert said[f"{folder / 'processor_config.json'}"] == "auto_map was null; now today's"
    assert set(said) == {
        str(folder / name)
        for name in ("modeling.py", "processing.py", "pairing.py", "config.json", "processor_config.json")
    } | {str(folder / "tokenizer_config.json")}
    assert lines[-1] == f"`adcopilot check {folder} --trust-remote-code` says whether it answers as before"

    after = contents(folder)
    assert after.keys() == before.keys()
    for name, content in before.items():
        same = json.loads(after[name]) == json.loads(content) if name.endswith(".json") else after[name] == content
        assert same, name
    config = json.loads(after["config.json"])
    assert config["auto_map"] == AUTO_MAP
    assert config["adcopilot_version"] == __version__
    assert config["transformers_tried"] == list(TRANSFORMERS_TRIED)
    assert refresh(folder) == (0, [f"{folder}: nothing to change"])


def test_weights_the_fixture_and_the_users_own_files_are_kept(refresh, folder):
    (folder / "mine.py").write_text("print('mine')\n")
    kept = ("mine.py", FIXTURE, "model.safetensors", "tokenizer.json", "generation_config.json")
    numbers = {name: (folder / name).stat().st_ino for name in kept}
    make_old(folder)
    assert refresh(folder)[0] == 0
    assert {name: (folder / name).stat().st_ino for name in kept} == numbers


def test_what_transformers_5_left_for_itself_is_mended(refresh, folder):
    """Older code saved under transformers 5 wrote rotary positions and special tokens as only that reads them."""
    before = contents(folder)
    config = json.loads(before["config.json"])
    text = dict(config["text_config"])
    rope = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}
    change_json(folder / "config.json", text_config={**text, "rope_parameters": rope})
    tokenizer = json.loads(before["tokenizer_config.json"])
    tokens = tokenizer.pop("additional_special_tokens", None) or ["<|im_start|>"]
    tokenizer.pop("extra_special_tokens", None)
    change_json(folder / "tokenizer_config.json", without=["additional_special_tokens"], extra_special_tokens=tokens)
    code, lines = refresh(folder)
    assert code == 0
    assert lines[:2] == [
        f"{folder / 'config.json'}: text_config had rope_parameters; now today's",
        f"{folder / 'tokenizer_config.json'}: extra_special_tokens was a list; now today's",
    ]
    assert json.loads((folder / "config.json").read_text()) == config
    expected = {**tokenizer, "additional_special_tokens": tokens}
    assert json.loads((folder / "tokenizer_config.json").read_text()) == expected
    assert refresh(folder) == (0, [f"{folder}: nothing to change"])
    assert main(["check", str(folder), "--device", "cpu"]) == 0


@pytest.mark.parametrize("rope", [None, "default", {"rope_type": "default"}])
def test_rotary_positions_of_no_known_form_are_left_alone(rope):
    text = {"hidden_size": 1, "rope_parameters": rope}
    assert rope_as_transformers_4(text) is text


def test_weights_that_todays_code_does_not_find_keep_their_code(refresh, folder):
    """Older code named them so under transformers 5.0 to 5.5, where it also finds them again: that must not end."""
    path = folder / "model.safetensors"
    weights = {name.replace(".language_model.", "."): weight for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    make_old(folder)
    change_json(folder / "config.json", transformers_version="5.5.4")
    before = contents(folder)
    code, (line,) = refresh(folder)
    assert code == 2
    assert f"{path}: has model.layers.0." in line
    assert "under transformers 5.0 to 5.5 (config.json: 5.5.4), expected model.language_model.layers.0." in line
    assert "nothing was changed: export the model again" in line
    assert contents(folder) == before
    path.write_bytes(b"damaged")  # not what this command looks for
    assert refresh(folder)[0] == 0


def test_a_folder_without_fixture_gets_one(refresh, folder, monkeypatch):
    (folder / FIXTURE).unlink()
    monkeypatch.setenv(step.SWITCH, "0")
    code, lines = refresh(folder)
    assert code == 0
    assert lines[0] == f"{folder}: nothing to change"
    assert lines[1].startswith(f"{folder} has no fixture for `adcopilot check` (ADCOPILOT_FIXTURE=0 leaves it out)")
    monkeypatch.undo()
    make_old(folder)
    code, lines = refresh(folder)
    assert code == 0
    assert lines[-1] == (
        f"{folder / FIXTURE}: added, of what today's code answers; what the old code answered is not known"
    )
    assert not [line for line in lines if "as before" in line]
    assert main(["check", str(folder), "--device", "cpu"]) == 0


def test_a_link_is_replaced_and_not_what_it_points_to(refresh, folder, tmp_path):
    """Folders of the hub's cache are links to files that other revisions share."""
    shared = tmp_path / "shared.py"
    shared.write_text("old = True\n")
    (folder / "vision.py").unlink()
    (folder / "vision.py").symlink_to(shared)
    assert refresh(folder)[0] == 0
    assert shared.read_text() == "old = True\n"
    assert not (folder / "vision.py").is_symlink()


def test_killed_in_the_middle_it_goes_on(refresh, folder, monkeypatch):
    """And what is named is there by then: config.json comes after the code."""
    make_old(folder)
    write, written = refresh_command.atomic_write, []

    def killed(path, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *arguments)

    monkeypatch.setattr(refresh_command, "atomic_write", killed)
    assert main(["refresh", str(folder)]) == 130
    assert all(name.endswith(".py") for name in written)
    monkeypatch.setattr(refresh_command, "atomic_write", write)
    assert refresh(folder)[0] == 0
    assert differing(folder) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, "config.json: not found, expected the folder of a whole"),
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", "[" * 100_000, "config.json: not JSON"),
        ("config.json", "[]", "config.json: holds a JSON list, expected an object"),
        ("processor_config.json", "7", "processor_config.json: holds a JSON int, expected"),
        ("config.json", {"model_type": "qwen2_5_vl"}, "is 'qwen2_5_vl', expected 'adcopilot'; nothing was changed"),
        (
            "config.json",
            {"comparison_position_encoding": "learned"},
            "comparison_position_encoding is 'learned', expected one of ('none', 'rope2d')",
        ),
    ],
)
def test_wrong_folders_are_refused(refresh, folder, name, content, said):
    make_old(folder)
    damage(folder, name, content)
    before = contents(folder)
    code, (line,) = refresh(folder)
    assert code == 2
    assert line.startswith("error: ")
    assert str(folder) in line
    assert said in line
    assert contents(folder) == before


def test_no_folder(refresh, tmp_path):
    code, (line,) = refresh(tmp_path / "nowhere")
    assert code == 2
    assert "nowhere: no such folder; give one that" in line


def test_a_folder_that_cannot_be_written_to(refresh, folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # nothing is read-only to root
    assert refresh(folder) == (0, [f"{folder}: nothing to change"])
    make_old(folder)
    before = contents(folder)
    code, (line,) = refresh(folder)
    assert code == 2
    assert f"{folder}: cannot be written to, and 6 files in it are to be changed; `chmod u+w {folder}`" in line
    assert contents(folder) == before


OWN_CODE = """
import sys
from pathlib import Path
from adcopilot.cli import main
folder = Path(sys.argv[1])
check = lambda: print("exit", main(["check", str(folder), "--device", "cpu", "--trust-remote-code"]), flush=True)
check()
modeling = folder / "modeling.py"
text = modeling.read_text()
modeling.write_text("import no_such_module_anywhere" + chr(10))
check()
modeling.write_text(text.replace("_grid_thw, pairs, compared)", "_grid_thw, list(range(len(pairs))), compared)"))
check()
print("exit", main(["refresh", str(folder)]))
check()
config = folder / "config.json"
config.write_text(config.read_text().replace('"modeling.AdCopilotFor', '"owner/name--modeling.AdCopilotFor'))
check()
"""


def test_the_folders_own_code_checked_and_mended(folder, nursery, tmp_path):
    """Run by who trusts it, in a process of its own: as exported, broken, comparing nothing, refreshed, of others."""
    said = tmp_path / "said"
    nursery.start(folder, code=OWN_CODE, stdout=said, stderr=said).wait()
    assert "[y/N]" not in said.read_text(), "the option has said so"
    lines = [line for line in said.read_text().splitlines() if line.startswith(("exit", "error:", str(folder)))]
    exits = [line for line in lines if line.startswith("exit")]
    assert exits == [f"exit {code}" for code in (0, 2, 2, 0, 0, 2)], said.read_text()
    equal, broken, without, replaced, again, foreign = (line for line in lines if not line.startswith("exit"))
    for line in (equal, again):
        assert "compared and equal" in line
        assert "now the folder's own code" in line
    remedy = f"`adcopilot refresh {folder}` puts today's code into it"
    assert broken.startswith(f"error: {folder / 'modeling.py'}: the class AdCopilotForConditionalGeneration cannot")
    assert broken.endswith(remedy)
    assert without.startswith(f"error: {folder / FIXTURE}: ")
    assert without.endswith(remedy)
    assert replaced == f"{folder / 'modeling.py'}: replaced by today's"
    assert "auto_map has 'owner/name--modeling.AdCopilotForConditionalGeneration'" in foreign
    assert foreign.endswith(remedy)
