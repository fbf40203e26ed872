"""Digests of images: of content, read once, and read again when a file changed."""

import hashlib
import json
import os
import shutil

import pytest

from adcopilot.answering.families import FAMILIES
from adcopilot.errors import UserError
from adcopilot.evaluation import image_digests as module
from adcopilot.evaluation.benchmarks.mmad import dataset, prompts
from adcopilot.evaluation.image_digests import FILE, image_digests


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


@pytest.fixture
def read(monkeypatch):
    """The files that are really read."""
    seen = []
    digest = module.file_digest
    monkeypatch.setattr(module, "file_digest", lambda path: (seen.append(path.name), digest(path))[1])
    return seen


def test_each_file_is_read_once(files, tmp_path, read):
    run = tmp_path / "run"
    expected = {path: hashlib.sha256(path.name.encode()).hexdigest() for path in files}
    assert image_digests([*files, *files], folder=run) == expected
    assert sorted(read) == ["a.png", "b.png", "c.png"]
    assert image_digests(files, folder=run) == expected
    assert len(read) == 3
    # Same size, other content, later.
    stat = files[1].stat()
    files[1].write_bytes(b"B.png")
    os.utime(files[1], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert image_digests(files, folder=run)[files[1]] == hashlib.sha256(b"B.png").hexdigest()
    assert read[3:] == ["b.png"]
    image_digests(files[:1])
    assert read[4:] == ["a.png"]  # nothing is kept without a folder


@pytest.mark.parametrize("damaged", ["", "[]", '{"x": 1}', '{"x": [1, 2]}', "{"])
def test_a_damaged_file_is_made_again(files, tmp_path, damaged):
    (tmp_path / FILE).write_text(damaged)
    found = image_digests(files, folder=tmp_path)
    assert found[files[0]] == hashlib.sha256(b"a.png").hexdigest()
    assert len(json.loads((tmp_path / FILE).read_text())) == 3


def test_a_folder_in_the_place_of_an_image(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png: is a folder, expected a file"):
        image_digests([tmp_path / "a.png"])


def test_keys_follow_content_and_not_size_or_place(mini_mmad, tmp_path):
    """An image exchanged for one of the same size is another question; a copy elsewhere is the same."""
    copy = shutil.copytree(mini_mmad, tmp_path / "copy")

    def keys(root):
        samples, _ = dataset.load(root)
        words = prompts.own_words(prompts.PROMPTS, shots=1)
        made = prompts.items(samples, root=root, shots=1, kind="random", words=words, family=FAMILIES["generic"])
        return {(item.meta["image"], item.meta["question"]): item.key for item in made}

    before = keys(mini_mmad)
    assert keys(copy) == before
    image = "DS-MVTec/bottle/image/good/000.png"
    data = bytearray((copy / image).read_bytes())
    data[-1] ^= 1
    (copy / image).write_bytes(data)
    after = keys(copy)
    changed = {name for (name, question), key in after.items() if key != before[name, question]}
    assert changed == {image}
