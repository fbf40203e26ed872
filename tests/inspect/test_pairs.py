"""Which template a query is compared with."""

import os
import shutil
import socket

import pytest
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.images import open_image
from adcopilot.inspect.pairs import NamePattern, TemplatePool, find_images, find_pairs, masks_below, mvtec_queries
from adcopilot.inspect.same_picture import is_same_picture

from .conftest import part

pytestmark = pytest.mark.forward


def plain(folder, name, colour, size=(40, 40)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def choose(pool, query, name):
    return pool.choose(query, name=name)[0].relative_to(pool.folder).as_posix()


def test_equal_names_decide_where_the_namesake_is_alike(tmp_path):
    """Ten parts, each photographed twice; the second of a pair is darker than its neighbours' by as much."""
    for index in range(10):
        plain(tmp_path / "good", f"{index}.png", (20 * index, 20 * index, 20 * index))
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    query = plain(tmp_path / "test", "q.png", (91, 91, 91))
    assert choose(pool, query, "4.png") == "4.png"  # the second nearest of ten: near enough
    assert choose(pool, query, "z.png") == "5.png"  # the nearest
    assert choose(pool, query, "0.png") == "5.png"  # its name is chance: it is not among the nearest quarter
    assert pool.chosen == {"equal names": 1, "likeness": 2}


def test_a_namesake_is_found_by_its_path_or_if_it_is_the_only_one(tmp_path):
    colours = {"x/1.png": 90, "y/1.png": 100, "y/2.png": 92, "z/3.png": 0, "z/4.png": 0, "z/5.png": 0}
    for name, grey in {**colours, **{f"z/{index}.png": 200 for index in range(6, 20)}}.items():
        plain(tmp_path / "good", name, (grey, grey, grey))
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    query = plain(tmp_path / "test", "q.png", (94, 94, 94))
    assert choose(pool, query, "y/1.png") == "y/1.png"  # the same path below its folder
    assert choose(pool, query, "other/2.png") == "y/2.png"  # the only one with this name
    assert choose(pool, query, "1.png") == "y/2.png"  # ambiguous: the nearest
    by_likeness = TemplatePool(folder=tmp_path / "good", by_name=False)
    assert choose(by_likeness, query, "y/1.png") == "y/2.png"


def test_shape_counts(tmp_path):
    """A stretched template is another picture than any of training's."""
    plain(tmp_path / "good", "a.png", "white", size=(80, 40))
    plain(tmp_path / "good", "b.png", "black", size=(42, 40))
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    assert choose(pool, plain(tmp_path, "q.png", (250, 250, 250)), "a.png") == "b.png"
    wide = plain(tmp_path, "w.png", "red", size=(400, 40))
    assert choose(pool, wide, "w.png") == "b.png"  # none has its shape: the nearest of all


def copies(picture, folder):
    """Name of a copy -> how it is made, from a PNG."""
    folder.mkdir(exist_ok=True)

    def exif(path):
        image = Image.open(picture).convert("RGB").transpose(Image.Transpose.ROTATE_90)
        tags = Image.Exif()
        tags[0x0112] = 6
        image.save(path, exif=tags)

    return {
        "copy.png": lambda path: shutil.copy(picture, path),
        "link.png": lambda path: path.symlink_to(picture),
        "hard.png": lambda path: path.hardlink_to(picture),
        "other.bmp": lambda path: Image.open(picture).save(path),
        "other.tiff": lambda path: Image.open(picture).save(path, compression="tiff_lzw"),
        "other.webp": lambda path: Image.open(picture).save(path, lossless=True),
        "alpha.png": lambda path: Image.open(picture).convert("RGBA").save(path),
        "exif.png": exif,
        "turned.png": lambda path: Image.open(picture).transpose(Image.Transpose.ROTATE_180).save(path),
        "mirrored.png": lambda path: Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path),
    }


def test_a_picture_is_never_its_own_template(tmp_path):
    (tmp_path / "test").mkdir()
    query = tmp_path / "test/q.png"
    part(1).save(query)
    made = copies(query, tmp_path / "good")
    for name, make in made.items():
        make(tmp_path / "good" / name)
        assert is_same_picture(open_image(query), open_image(tmp_path / "good" / name)), name
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    with pytest.raises(UserError, match=r"every template is this picture itself"):
        pool.choose(query, name="copy.png")
    part(7).save(tmp_path / "good/z.png")
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    assert choose(pool, query, "copy.png") == "z.png"


def test_other_pictures_are_not_the_same():
    one = part(1)
    assert not is_same_picture(one, part(1, defect=True))
    assert not is_same_picture(one, one.crop((0, 0, 83, 56)))
    dot = one.copy()
    dot.putpixel((3, 3), (0, 0, 0))
    assert not is_same_picture(one, dot)
    shuffled = Image.frombytes("RGB", one.size, one.tobytes()[-3:] + one.tobytes()[:-3])  # the same histogram
    assert not is_same_picture(one, shuffled)


@pytest.mark.parametrize(
    ("pattern", "name", "template"),
    [
        ("{}_test.jpg={}_temp.jpg", "00041000_test.jpg", "00041000_temp.jpg"),
        ("{}_test.jpg={}_temp.jpg", "g/1/2_test.jpg", "g/1/2_temp.jpg"),
        ("{}_test.jpg={}_temp.jpg", "2_temp.jpg", None),
        ("{}_test.jpg={}_temp.jpg", "_test.jpg", None),
        ("test-{}=good-{}", "a/test-1.png", "a/good-1.png"),
        ("test/{}.png=good/{}.bmp", "test/a/1.png", "good/a/1.bmp"),
        ("{}.png={}.[x].png", "1.png", "1.[x].png"),
        ("{}={}", "a/1.png", "a/1.png"),
    ],
)
def test_patterns_of_names(pattern, name, template):
    assert NamePattern.parse(pattern).template_for(name) == template


@pytest.mark.parametrize("text", ["", "{}", "{}_a", "a=b", "{}{}={}", "{}=b", "a={}"])
def test_no_pattern(text):
    with pytest.raises(UserError, match=r"--pair-pattern is .*expected"):
        NamePattern.parse(text)


def test_a_pool_leaves_out_what_is_to_be_inspected(tmp_path):
    plain(tmp_path / "all/good", "a.png", "black")
    plain(tmp_path / "all/test", "b.png", "white")
    pool = TemplatePool(folder=tmp_path / "all", by_name=True, without=tmp_path / "all/test")
    assert [file.name for file in pool.files] == ["a.png"]
    with pytest.raises(UserError, match="none is known to be good"):
        TemplatePool(folder=tmp_path / "all/test", by_name=True, without=tmp_path / "all")


def test_unusable_templates_are_left_out_and_named(tmp_path):
    plain(tmp_path / "good", "a.png", "black")
    plain(tmp_path / "good", "b.png", "white")
    (tmp_path / "good/c.png").write_bytes(b"not an image")
    pool = TemplatePool(folder=tmp_path / "good", by_name=True)
    assert pool.choose(plain(tmp_path, "z.png", "yellow"), name="z.png")[0].name == "b.png"
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


def test_photographs_that_are_not_read_are_found(tmp_path):
    """Each becomes a line with an error; where there are no others nothing begins."""
    plain(tmp_path, "a.png", "red")
    for name in ("a.nef", "b.HEIC", ".c.heic", "only/d.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"raw")
    assert [str(file.relative_to(tmp_path)) for file in find_images(tmp_path)] == ["a.png", "b.HEIC", "only/d.heic"]
    with pytest.raises(UserError, match=r"d\.heic: a photograph in a format that is not read; convert it .*no other"):
        find_images(tmp_path / "only")
    pool = TemplatePool(folder=tmp_path, by_name=False)
    assert choose(pool, plain(tmp_path / "query", "q.png", "blue"), "q.png") == "a.png"
    assert [message.split(": ")[0] for message in pool.unusable] == [f"{tmp_path}/b.HEIC", f"{tmp_path}/only/d.heic"]


def test_find_images(tmp_path):
    for name in ("b.JPG", "a.png", "deep/c.tiff", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(file.relative_to(tmp_path)) for file in find_images(tmp_path)] == ["a.png", "b.JPG", "deep/c.tiff"]
    for name in ("ground_truth/scratch/a_mask.png", "deep/Masks/c.png", "gt/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert [str(file.relative_to(tmp_path)) for file in find_images(tmp_path)] == ["a.png", "b.JPG", "deep/c.tiff"]
    assert masks_below(tmp_path) == [tmp_path / "deep/Masks", tmp_path / "ground_truth", tmp_path / "gt"]
    (tmp_path / "only/ground_truth").mkdir(parents=True)
    (tmp_path / "only/ground_truth/a.png").touch()
    with pytest.raises(UserError, match="only masks in it"):
        find_images(tmp_path / "only")
    assert len(find_images(tmp_path / "only/ground_truth")) == 1  # asked for by name
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
    # a product whose good parts are called otherwise is no product less
    train = tmp_path / "bolt/train"
    for name in ("OK", "正常", "gut"):
        (train / "good").rename(train / name)
        assert [good for _, good, _ in mvtec_queries(tmp_path)] == [train / name, tmp_path / "nut/train/good"]
        (train / name).rename(train / "good")
    (train / "good").rename(train / "series_a")
    with pytest.raises(UserError, match="bolt/train: no folder of good parts in it, only 'series_a'; expected one"):
        mvtec_queries(tmp_path)
    (train / "ok").mkdir()
    (train / "pass").mkdir()
    with pytest.raises(UserError, match="'ok', 'pass' all say good"):
        mvtec_queries(tmp_path)


def hostile(folder):
    """What has an image's name and is none, or has a strange name: name -> part of its error, None if it is fine."""
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    bound = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)  # a socket's path may have 107 bytes
    bound.bind("socket.png")
    os.chdir(here)
    bound.close()
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "dangling.png").symlink_to(folder / "nowhere")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "folder.png").mkdir()
    (folder / "up").symlink_to(folder)
    names = {
        os.fsdecode(b"latin-\xe4.png"): None,
        "line\nfeed.png": None,
        "\x1b[31m.png": None,
        "x" * 246 + ".png": None,
    }
    for name in names:
        part().save(folder / name)
    return {
        "pipe.png": "is a named pipe",
        "socket.png": "is a socket",
        "device.png": "is a device",
        "dangling.png": "no such image file",
        "loop.png": "cannot be read",
        "folder.png": "is a folder",
        **names,
    }


def test_what_is_no_picture_is_found_and_is_its_own_error(tmp_path):
    expected = hostile(tmp_path / "test")
    part(3).save(tmp_path / "good.png")
    found = find_images(tmp_path / "test")
    assert sorted(file.name for file in found) == sorted(expected)  # each once: `up` leads back
    pool = TemplatePool(folder=tmp_path / "test", by_name=False)
    for pair in find_pairs([(file, file.name) for file in found], pool):
        error = expected[pair.name]
        assert error in pair.error if error else pair.error is None or "itself" in pair.error
    assert len(pool.unusable) == 6


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    for name in ("a.png", "secret/b.png"):
        plain(tmp_path, name, "black")
    scan = os.scandir

    def refuse(path):
        if os.fspath(path) == os.fspath(refused):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    refused = tmp_path / "secret"
    assert find_images(tmp_path) == [tmp_path / "a.png", refused]
    refused = tmp_path
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        find_images(tmp_path)
