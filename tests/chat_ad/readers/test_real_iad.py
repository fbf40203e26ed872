"""Real-IAD and Real-IAD-Variety."""

import json
import shutil

import pytest

from adcopilot.errors import UserError

from ..trees import DATASETS, build
from .reading import read


@pytest.mark.parametrize("layout", ["real-iad", "real-iad-nested", "real-iad-variety"])
def test_real_iad_s_views_without_a_mask_are_normal(tmp_path, layout):
    found = read(DATASETS[layout], build(layout, tmp_path))
    assert found.counts == {("train", "normal"): 5, ("test", "normal"): 11, ("test", "anomalous"): 4}
    assert [entry.view for entry in found.entries] == ["C1", "C2", "C3", "C4", "C5"] * 4
    assert len({entry.group for entry in found.entries}) == 4
    assert {entry.defect for entry in found.anomalous} == {"deformation", "XX"}
    assert {entry.category for entry in found.entries} == {"audiojack"}
    hidden = [entry for entry in found.entries if entry.notes]
    assert {(entry.label, entry.notes) for entry in hidden} == {
        ("normal", "a view without the defect of its part (deformation)"),
        ("normal", "a view without the defect of its part (XX)"),
    }


def _change_real_iad(root, change):
    path = root / "realiad_jsons/audiojack.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda data: data["test"][6].update(mask_path="NG/BX/nothing.png"), "missing-mask"),
        (lambda data: data["test"][6].update(image_path="NG/BX/nothing.jpg"), "missing-image"),
        (lambda data: data["test"][6].update(image_path="../../../secret.jpg"), "broken-json"),
        (lambda data: data["test"][6].update(mask_path="/etc/passwd"), "broken-json"),
        (lambda data: data["test"][6].update(anomaly_class="OK"), "broken-json"),
        (lambda data: data["test"][6].pop("anomaly_class"), "broken-json"),
        (lambda data: data["test"].__setitem__(6, "text"), "broken-json"),
        (lambda data: data["train"].append(data["test"][6]), "listed-twice"),
    ],
)
def test_real_iad_s_samples_may_be_wrong(tmp_path, change, kind):
    root = build("real-iad", tmp_path)
    _change_real_iad(root, change)
    found = read("real-iad", root)
    assert [problem.kind for problem in found.blocking] == [kind]
    assert len(found.entries) == (20 if kind == "listed-twice" else 19)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"train": []}', '{"train": 3, "test": []}', "[" * 100_000])
def test_real_iad_s_files_may_be_broken(tmp_path, text):
    root = build("real-iad", tmp_path)
    (root / "realiad_jsons/broken.json").write_text(text)
    found = read("real-iad", root)
    assert [(problem.kind, problem.file) for problem in found.blocking] == [
        ("broken-json", "realiad_jsons/broken.json")
    ]
    assert len(found.entries) == 20


def test_real_iad_s_folders_can_be_chosen(tmp_path):
    root = build("real-iad", tmp_path)
    shutil.copytree(root / "realiad_1024", root / "realiad_256")
    shutil.copytree(root / "realiad_jsons", root / "realiad_jsons_sv")
    # The file's own prefix wins, unless another is asked for.
    assert read("real-iad", root).entries[0].image.startswith("realiad_1024/")
    assert read("real-iad", root, images="realiad_256").entries[0].image.startswith("realiad_256/")
    _change_real_iad(root, lambda data: data["meta"].update(prefix=""))
    with pytest.raises(UserError, match=r"choose by --set datasets\.SET\.options\.images=realiad_256"):
        read("real-iad", root)
    assert len(read("real-iad", root, jsons="realiad_jsons_sv").entries) == 20
    for options in ({"jsons": "other"}, {"images": "other"}):
        with pytest.raises(UserError, match="=other is not there, expected one of realiad"):
            read("real-iad", root, **options)


def test_real_iad_without_its_images_is_one_problem_a_category(tmp_path):
    root = build("real-iad", tmp_path)
    shutil.rmtree(root / "realiad_1024")
    found = read("real-iad", root)
    assert [(problem.kind, problem.file) for problem in found.blocking] == [
        ("missing-image", "realiad_jsons/audiojack.json")
    ]
    assert "none of its 20 images is there" in found.blocking[0].reason
