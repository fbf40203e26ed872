"""Which template a query is compared with."""

import pytest
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.inspect.pairs import TemplatePool, find_images, find_pairs, mvtec_queries

from .conftest import part

pytestmark = pytest.mark.forward


def plain(folder, name, colour, size=(40, 40)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_same_name_first_then_nearest(tmp_path):
    good, query = tmp_path / "good", tmp_path / "test"
    plain(good, "a.png", "black")
    plain(good, "b.png", "white")
    plain(good, "deep/c.png", "red")
    pool = TemplatePool(folder=good, by_name=True)

    def choose(name, colour):
        return pool.choose(plain(query, name, colour, size=(60, 30)), name=name).name

    assert choose("a.png", "white") == "a.png"  # the same path below its folder
    assert choose("other/c.png", "white") == "c.png"  # the only one with the same file name
    assert choose("z.png", (240, 240, 240)) == "b.png"  # nearest
    assert choose("y.png", (190, 10, 10)) == "c.png"


def test_an_ambiguous_name_is_no_name(tmp_path):
    plain(tmp_path / "good", "x/1.png", "black")
    plain(tmp_path / "good", "y/1.png", "white")
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    query = plain(tmp_path / "test", "1.png", "white")
    assert pool.choose(query, name="1.png").parent.name == "y"
    assert pool.choose(query, name="x/1.png").parent.name == "x"


def test_unusable_templates_are_left_out_and_named(tmp_path):
    plain(tmp_path / "good", "a.png", "black")
    plain(tmp_path / "good", "b.png", "white")
    (tmp_path / "good/c.png").write_bytes(b"not an image")
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    assert pool.choose(plain(tmp_path, "z.png", "white"), name="z.png").name == "b.png"
    [message] = pool.unusable
    assert "c.png" in message


def test_no_usable_template_is_every_pairs_error(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"not an image")
    pool = TemplatePool(folder=tmp_path, by_name=True)
    query = plain(tmp_path / "test", "z.png", "white")
    [first, second] = find_pairs([(query, "z.png"), (query, "y.png")], pool)
    assert first.template is None
    assert "none of its 2 images can be used" in first.error
    assert second.error == first.error


def test_find_images(tmp_path):
    for name in ("b.JPG", "a.png", "deep/c.tiff", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(file.relative_to(tmp_path)) for file in find_images(tmp_path)] == ["a.png", "b.JPG", "deep/c.tiff"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        find_images(tmp_path / "empty")
    with pytest.raises(UserError, match="no such folder"):
        find_images(tmp_path / "nowhere")


def test_mvtec_tree(tmp_path):
    for category in ("bolt", "nut"):
        for name in ("train/good/000.png", "test/good/000.png", "test/scratch/000.png", "ground_truth/scratch/0.png"):
            (tmp_path / category / name).parent.mkdir(parents=True, exist_ok=True)
            part().save(tmp_path / category / name)
    (tmp_path / "readme").mkdir()
    found = mvtec_queries(tmp_path)
    assert [(name, len(queries)) for name, _, queries in found] == [("bolt", 2), ("nut", 2)]
    [(name, good, queries)] = mvtec_queries(tmp_path / "nut")
    assert (name, good) == ("nut", tmp_path / "nut/train/good")
    assert [query.parent.name for query in queries] == ["good", "scratch"]
    with pytest.raises(UserError, match="not an MVTec-style tree"):
        mvtec_queries(tmp_path / "readme")
