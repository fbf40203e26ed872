"""A hub id wherever a model's folder is taken; without a network, one line. Nothing here asks a hub."""

import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.evaluation.backends.loading import load_any_model
from adcopilot.inspect import hub
from adcopilot.inspect.loading import model_digest


@pytest.fixture
def hub_of(monkeypatch, tmp_path):
    """Puts a folder on a hub as `somebody/model`; the patterns that were asked for, in order."""

    def install(folder):
        asked = []
        cache = tmp_path / "cache/models--somebody--model/snapshots/0123abc"

        def snapshot_download(name, *, revision=None, allow_patterns=None):
            asked.append(allow_patterns)
            assert (name, revision) == ("somebody/model", None)
            cache.mkdir(parents=True, exist_ok=True)
            for pattern in allow_patterns:
                for file in folder.glob(pattern):
                    (cache / file.name).unlink(missing_ok=True)
                    (cache / file.name).symlink_to(file)  # as in huggingface_hub's cache
            return str(cache)

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        return asked

    return install


@pytest.fixture
def no_network(monkeypatch):
    def snapshot_download(*args, **options):
        raise OSError("We couldn't connect to the hub\nto load the files")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("somebody/model", True),
        ("Qwen/Qwen2.5-VL-3B-Instruct", True),
        ("none", False),
        ("a/b/c", False),
        ("./a/b", False),
        ("~/model", False),
        ("/a/b", False),
        ("saves/nothing", False),  # there is a folder saves
        ("saves/model", False),
    ],
)
def test_what_is_meant_as_an_id(name, is_id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saves/model").mkdir(parents=True)
    assert hub.is_hub_id(name) is is_id


def test_a_folder_asks_no_hub(tmp_path, no_network):
    assert hub.model_folder(tmp_path) == tmp_path
    assert hub.model_folder(tmp_path / "not_there") == tmp_path / "not_there"


def test_no_code_is_had_unless_it_is_to_be_run(tmp_path, hub_of):
    (tmp_path / "model.py").touch()
    asked = hub_of(tmp_path)
    assert not list(hub.model_folder("somebody/model").glob("*.py"))
    assert list(hub.model_folder("somebody/model", code=True).glob("*.py"))
    assert "*.py" in asked[1]


def test_a_model_of_a_hub_is_called_by_its_id(tmp_path):
    assert hub.model_title(tmp_path / "models--somebody--model/snapshots/0123abc") == "somebody/model"
    assert hub.model_title(tmp_path / "mine") == f"{tmp_path.name}/mine"


def test_the_kind_is_known_by_one_small_file(tmp_path, hub_of):
    (tmp_path / "config.json").write_text('{"model_type": "adcopilot"}')
    asked = hub_of(tmp_path)
    assert hub.hub_kind("somebody/model") == "adcopilot"
    assert asked == [["config.json"]]
    (tmp_path / "config.json").write_text("[")
    assert hub.hub_kind("somebody/model") is None


COMMANDS = {
    "inspect": ["inspect", "--model", "somebody/model", "--template", "a.png", "--query", "b.png"],
    "calibrate": ["calibrate", "somebody/model", "--good", "good", "--output", "line"],
    "demo": ["demo", "--model", "somebody/model"],
    "check": ["check", "somebody/model"],
    "transfer": ["transfer", "--model", "somebody/model", "--base", "base", "--output", "out"],
    "init": ["init", "--base", "somebody/model", "--output", "out"],
    "adapt": ["adapt", "parts", "--base", "somebody/model", "--output", "line"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_network_it_is_one_line(name, no_network, refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = "somebody/model: no such folder, and not to be had from huggingface (We couldn't connect to the hub"
    assert said in refusal(*COMMANDS[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_takes_what_the_hub_gave(name, hub_of, run, tmp_path, monkeypatch):
    """A folder of another model, so that each of them ends at the look at what was had."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for picture in ("a.png", "b.png"):
        (here / picture).touch()
    asked = hub_of(other)
    code, _, err = run(*COMMANDS[name])
    assert code == 2
    assert asked
    assert "models--somebody--model" in err


def test_a_model_of_a_hub_inspects(adcopilot_dir, hub_of, run, project_root):
    hub_of(adcopilot_dir)
    pictures = project_root / "data/sample/images/test_held_out/000"
    pair = ("--template", pictures / "000001_template.png", "--query", pictures / "000001_query.png")
    short = ("--max-new-tokens", "1", "--json", "--map", "off", "--device", "cpu", "-q")
    code, out, _ = run("inspect", "--model", "somebody/model", *pair, *short)
    assert code == 0
    assert '"verdict"' in out


def test_a_line_of_a_model_of_a_hub_holds_the_model(adcopilot_dir, hub_of, run, refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").mkdir()
    for number in range(6):
        Image.effect_noise((56, 56), 20 + number).convert("RGB").save(tmp_path / f"good/{number}.png")
    hub_of(adcopilot_dir)
    calibrate = ("calibrate", "somebody/model", "--good", "good")
    assert "give --output DIR" in refusal(*calibrate)
    words = ("--max-new-tokens", "1", "--any-size", "--device", "cpu")
    assert run(*calibrate, "--output", "line", *words)[0] == 0
    shutil.rmtree(tmp_path / "cache")
    weights = [path.name for path in (tmp_path / "line").glob("*.safetensors")]
    assert weights
    for name in ("config.json", "inspection.json", *weights):
        assert (tmp_path / "line" / name).is_file()
        assert not (tmp_path / "line" / name).is_symlink()
    assert run("inspect", "--model", "line", "--query-dir", "good", "--max-new-tokens", "1", "-q")[0] == 0


def test_writing_into_a_hubs_cache_is_refused(no_network, refusal):
    assert "hf download somebody/model --local-dir DIR" in refusal("check", "somebody/model", "--write")


def test_evaluation_opens_an_ad_copilot_of_a_hub_as_a_folder(adcopilot_dir, hub_of):
    asked = hub_of(adcopilot_dir)
    found = load_any_model("somebody/model", family=None, device="cpu", dtype="float32", attention="sdpa")
    assert (found.name, found.digest) == ("somebody/model", model_digest(adcopilot_dir))
    assert asked[0] == ["config.json"]


def test_stage_3_takes_an_id(no_network):
    from adcopilot.grpo.command import train

    args = SimpleNamespace(model_name_or_path="somebody/model")
    with pytest.raises(UserError, match="model_name_or_path somebody/model: no such folder"):
        train(args, SimpleNamespace(process_index=0))
