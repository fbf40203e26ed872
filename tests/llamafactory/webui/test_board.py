"""What LlamaBoard's runs are given, without a browser (with one: `tests/webui/test_llamaboard.py`)."""

import json

import pytest

pytest.importorskip("gradio", reason="needs gradio, which LlamaFactory installs")


@pytest.fixture
def board(llamafactory):
    from adcopilot.llamafactory.webui import board

    return board


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder like the checkout: registrations at its top, pictures named from `data`."""
    (tmp_path / "data/sample/images").mkdir(parents=True)
    (tmp_path / "data/sample/images/a.png").touch()
    (tmp_path / "data/sample/parts.jsonl").write_text(json.dumps({"images": ["sample/images/a.png"]}) + "\n")
    (tmp_path / "data/sample/text.jsonl").write_text(json.dumps({"messages": []}) + "\n")
    names = {"parts": {"file_name": "data/sample/parts.jsonl"}, "text": {"file_name": "data/sample/text.jsonl"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({**names, "absent": {"file_name": "data/absent.jsonl"}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_board_begins_with_the_checkouts_data_sets(board, checkout, tmp_path_factory, monkeypatch):
    assert board.data_dir("data") == "."
    (checkout / "data/dataset_info.json").write_text("{}")  # LlamaFactory's own place goes first
    assert board.data_dir("data") == "data"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert board.data_dir("data") == "data"


@pytest.mark.parametrize(
    ("folder", "names", "found"),
    [
        (".", ["parts"], "data"),
        (".", ["absent", "text", "nowhere", "parts"], "data"),
        (".", ["text"], None),
        ("data", ["parts"], None),  # no registrations there
        (".", [], None),
    ],
)
def test_where_pictures_are_named_from(board, checkout, folder, names, found):
    assert board.pictures_of(folder, names) == found


def test_pictures_beside_the_registrations_need_no_setting(board, checkout):
    (checkout / "sample/images").mkdir(parents=True)
    (checkout / "sample/images/a.png").touch()
    assert board.pictures_of(".", ["parts"]) is None


def settings(**changes):
    return {"do_train": True, "dataset_dir": ".", "dataset": "parts", "preprocessing_num_workers": 16, **changes}


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr("llamafactory.extras.misc.is_accelerator_available", lambda: False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def test_a_cpu_is_told_apart(board, checkout, without_gpu):
    args = settings()
    assert board.fit(args) == (
        "no GPU here, so use_cpu is set and data are prepared by 2 processes; the pictures are named from data, so "
        "media_dir is set to it"
    )
    assert args == settings(use_cpu=True, preprocessing_num_workers=2, media_dir="data")


def test_what_was_typed_stands(board, checkout, without_gpu, monkeypatch):
    args = settings(use_cpu=False, media_dir="elsewhere")
    assert board.fit(args) == ""
    assert args == settings(use_cpu=False, media_dir="elsewhere")
    monkeypatch.setattr("llamafactory.extras.misc.is_accelerator_available", lambda: True)
    args = settings(dataset="text")
    assert board.fit(args) == ""
    assert args == settings(dataset="text")


def test_only_runs_with_our_template_are_given_any(board, checkout, without_gpu, monkeypatch):
    told = []
    monkeypatch.setattr("gradio.Info", told.append)
    for template in ("qwen2_vl", "adcopilot"):
        parse = board._fitted(lambda self, data: settings(template=data))
        assert ("use_cpu" in parse(None, template)) is (template == "adcopilot")
    assert len(told) == 1
