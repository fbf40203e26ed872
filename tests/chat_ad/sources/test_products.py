"""What a product is called in texts, by its folder's name or by the recipe."""

import pytest
import yaml

from adcopilot.chat_ad.generation import PromptFiles
from adcopilot.chat_ad.generation.words import Words
from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe
from adcopilot.errors import UserError

from ..builds import records, write_recipe
from ..pipeline.test_losses import parts


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        *((name, "part") for name in ("p", "P", "7", "0107", "p1", "B 12", "я", "_", "--", "(2)", "2024-10-01")),
        *(
            (name, "part")
            for name in ("data", "images", "train", "my_parts", "New Folder", "new folder (2)", "dataset")
        ),
        *(
            (name, "part")
            for name in ("trainData", "raw images", "YOLO", "test-set", "Untitled", "parts2", "JPEGImages")
        ),
        ("bracket", "bracket"),
        ("metalNut", "metal nut"),
        ("pump_housing-2", "pump housing"),
        ("my_bracket", "my bracket"),
        ("image sensor", "image sensor"),
        ("part_carrier", "part carrier"),
        ("pcb1", "PCB"),
        ("碗", "碗"),
        ("支架", "支架"),
        ("3d_printer", "3d printer"),
        ("bracket (2)", "bracket"),
    ],
)
def test_names_of_folders(folder, said):
    words = Words(prompts=PromptFiles())
    assert words.category(folder) == said
    assert words.a_category(folder)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        *(
            (name, "defect")
            for name in ("a", "B", "3", "003", "defect 3", "defect_b", "Type-2", "class1", "D1", "no. 7")
        ),
        ("scratch", "scratch"),
        ("scratch 2", "scratch 2"),
        ("MissingWire", "missing wire"),
        ("wire_type_mismatch", "wire type mismatch"),
        ("code", "code"),
        ("划痕", "划痕"),
        ("裂", "裂"),
    ],
)
def test_names_of_defects(label, said):
    words = Words(prompts=PromptFiles())
    assert words.label(label) == said
    assert words.vague(label) == (said == "defect")


def texts(output):
    return "\n".join(
        message["content"]
        for name in ("Caption_parts", "Chat_parts")
        for record in records(output / f"{name}.jsonl")
        for message in record["messages"]
    )


@pytest.fixture
def recipe(tmp_path):
    """A recipe over one product whose folder is called `p`."""
    root = parts(tmp_path / "raw", good=5, bad=3)
    (root / "bracket").rename(root / "p")

    def write(**keys):
        values = yaml.safe_load(write_recipe(tmp_path).read_text())
        values["datasets"] = {"own": {"reader": "folder", "root": str(root), "filter": False, **keys}}
        values["outputs"] = {
            "Caption_parts": {"datasets": "own", "tasks": "caption"},
            "Chat_parts": {"datasets": "own", "tasks": {"dialogue": 1, "mc": 1, "think": 1}},
        }
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_recipe(path)

    return write


def test_a_folder_that_names_no_product(recipe, tmp_path):
    build(recipe(), tmp_path / "out")
    found = texts(tmp_path / "out")
    assert " p " not in found
    assert "normal part sample" in found
    assert "What product is shown?" not in found


@pytest.mark.parametrize("product", ["hexagon bolt", {"p": "hexagon bolt"}])
def test_a_product_that_is_said(recipe, tmp_path, product):
    build(recipe(product=product), tmp_path / "out")
    found = texts(tmp_path / "out")
    assert "normal hexagon bolt sample" in found
    assert "normal part sample" not in found
    assert {record["category"] for record in records(tmp_path / "out/Caption_parts.jsonl")} == {"hexagon bolt"}


def test_products_that_cannot_be(recipe, tmp_path):
    with pytest.raises(UserError, match=r"datasets\.own\.product: no category 'q' there; there are: p"):
        build(recipe(product={"q": "bolt"}), tmp_path / "out")
    for wrong in (7, ["bolt"], {"p": 7}, ""):
        with pytest.raises(UserError, match=r"datasets\.own\.product"):
            recipe(product=wrong)
