"""Zips of visitors: what is in them comes out inside the folder, and no more of it than allowed."""

import io
import stat
import struct
import zipfile

import pytest

from adcopilot.demo.archive import unpack
from adcopilot.demo.limits import MIB, Limits
from adcopilot.errors import UserError

#: What stands before a file in a zip, and in its list of files.
HERE, LISTED = b"PK\3\4", b"PK\1\2"
LIMITS = Limits(upload_bytes=MIB, unpacked_bytes=2 * MIB, files=5)


def make(path, *members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def unpacked(archive, folder, **limits):
    folder.mkdir(exist_ok=True)
    number = unpack(archive, folder, name="parts.zip", limits=Limits(**{**vars(LIMITS), **limits}))
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(files) == number
    return files


def test_photographs_that_are_not_read_come_out_to_be_named(tmp_path):
    archive = make(tmp_path / "a.zip", ("a.jpg", b"1"), ("a.nef", b"2"), ("b/a.heic", b"3"), ("b/.c.heic", b"4"))
    assert set(unpacked(archive, tmp_path / "out")) == {"a.jpg", "b/a.heic"}


def test_images_come_out_under_their_paths(tmp_path):
    archive = make(
        tmp_path / "a.zip",
        ("test/scratch/000.PNG", b"1"),
        ("test/good/000.png", b"2"),
        ("ünï code.jpg", b"3"),
        ("windows\\1.png", b"4"),
        ("readme.txt", b"t"),
        ("__MACOSX/test/._000.png", b"m"),
        ("test/.hidden.png", b"h"),
        ("empty/", b""),
    )
    found = unpacked(archive, tmp_path / "out")
    assert found == {
        "test/scratch/000.PNG": b"1",
        "test/good/000.png": b"2",
        "ünï code.jpg": b"3",
        "windows/1.png": b"4",
    }


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "..\\evil.png", "\\evil.png", "a/..\\..\\x.png"]
)
def test_nothing_leads_out(tmp_path, name):
    archive = make(tmp_path / "a.zip", (name, b"x"), ("fine.png", b"y"))
    with pytest.raises(UserError, match=r"parts.zip: .*leads out of it"):
        unpacked(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*evil*")] == []


def test_a_link_is_a_file(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = make(tmp_path / "a.zip", (link, "/etc/passwd"))
    assert unpacked(archive, tmp_path / "out") == {"link.png": b"/etc/passwd"}
    assert not (tmp_path / "out/link.png").is_symlink()


def test_a_bomb_stops_at_the_limit(tmp_path):
    bomb = make(tmp_path / "a.zip", ("bomb.png", bytes(300 * MIB)))
    assert bomb.stat().st_size < MIB
    with pytest.raises(UserError, match=r"bomb.png is larger than 1 MB"):
        unpacked(bomb, tmp_path / "out")
    assert (tmp_path / "out/bomb.png").stat().st_size <= MIB
    many = make(tmp_path / "b.zip", *((f"{index}.png", bytes(MIB)) for index in range(3)))
    with pytest.raises(UserError, match=r"unpacked it is larger than 2 MB"):
        unpacked(many, tmp_path / "out2")


def test_sizes_that_lie(tmp_path):
    """The directory says 10 bytes; what comes out is counted, and more than 10 do not come out unnoticed."""
    archive = make(tmp_path / "a.zip", ("bomb.png", bytes(8 * MIB)))
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\1\2") + 24  # the uncompressed size in the central directory
    assert struct.unpack_from("<I", data, at)[0] == 8 * MIB
    struct.pack_into("<I", data, at, 10)
    archive.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        unpacked(archive, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.png")) <= MIB


def test_too_many_files(tmp_path):
    archive = make(tmp_path / "a.zip", *((f"{index}.png", b"x") for index in range(6)))
    with pytest.raises(UserError, match="6 pictures in it, this page takes 5"):
        unpacked(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def stored(path):
    return make(path, ("a.png", bytes(range(256)) * 40), compression=zipfile.ZIP_STORED)


def patched(path, *places):
    """With other bytes: (mark, offset behind it, what is changed in the byte there)."""
    data = bytearray(path.read_bytes())
    for mark, offset, change in places:
        data[data.index(mark) + offset] ^= change
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"hello"), "no zip, or it is damaged"),
        (lambda path: path.touch(), "no zip, or it is damaged"),
        (lambda path: make(path), "no pictures in it"),
        (lambda path: make(path, ("a.txt", b"x")), "no pictures in it"),
        (lambda path: make(path, ("a/b.png", b"x"), ("a/b.png", b"y")), "has b.png twice in the same folder"),
        (lambda path: make(path, ("a.png", b"x"), ("a.png/b.png", b"y")), "has a.png twice in the same folder"),
        (lambda path: make(path, ("x" * 300 + ".png", b"x")), "cannot be unpacked here"),
        (lambda path: patched(stored(path), (HERE, 6, 1), (LISTED, 8, 1)), "locked with a password"),
        (lambda path: patched(stored(path), (HERE, 8, 97), (LISTED, 10, 97)), "packed in a way that cannot be read"),
        (lambda path: stored(path).write_bytes(path.read_bytes()[:5000]), "no zip, or it is damaged"),
        (lambda path: patched(stored(path), (HERE, 1000, 255)), "no zip, or it is damaged"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_bad_zips_are_explained(tmp_path, spoil, message):
    spoil(tmp_path / "a.zip")
    with pytest.raises(UserError, match=message) as error:
        unpacked(tmp_path / "a.zip", tmp_path / "out")
    assert str(error.value).startswith("parts.zip: ")
    assert str(tmp_path) not in str(error.value)


def test_a_zip_in_a_zip_is_not_opened(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("b.png", b"x")
    archive = make(tmp_path / "a.zip", ("inner.zip", inner.getvalue()), ("a.png", b"y"))
    assert unpacked(archive, tmp_path / "out") == {"a.png": b"y"}


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_can_be_unpacked_in_little_memory(tmp_path, compression):
    """A megabyte of bzip2 becomes gigabytes at once."""
    archive = make(tmp_path / "a.zip", ("bomb.png", bytes(8 * MIB)), compression=compression)
    with pytest.raises(UserError, match=r"parts.zip: is packed in a way that cannot be read here"):
        unpacked(archive, tmp_path / "out")


@pytest.mark.parametrize("comment", [b"", b"x" * 60_000])
@pytest.mark.parametrize("number", [20_000, 70_000])  # from 65,536 on a zip has its second kind of list
def test_the_list_is_bounded_before_it_is_read(tmp_path, number, comment, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.comment = comment
        for index in range(number):
            archive.writestr(f"{index:050}.txt", b"")
    monkeypatch.setattr(zipfile.ZipFile, "__init__", lambda *_, **__: pytest.fail("the list was read"))
    with pytest.raises(UserError, match=r"parts.zip: lists [\d,]+ bytes of files, expected at most 1,053,696"):
        unpacked(tmp_path / "a.zip", tmp_path / "out")
