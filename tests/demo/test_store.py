"""Visitors' files: nobody else's path is taken, and everything goes away."""

import os
import time

import pytest

from adcopilot.demo.store import Store
from adcopilot.errors import UserError


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store(seconds=100, stored_bytes=1000)
    yield store
    store.close()


def upload(store, name="a.png", size=10):
    path = store.served / "0123abcd" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def test_only_uploads_are_used(store, tmp_path):
    inside = upload(store)
    assert store.use(inside, visitor="v") == inside
    outside = tmp_path / "secret.png"
    outside.write_text("s")
    (store.work / "w.png").write_text("w")
    (store.served / "link.png").symlink_to(outside)
    for path in (
        outside,
        store.work / "w.png",
        store.served / "link.png",
        store.served / ".." / "work" / "w.png",
        store.served,
        store.served / "nothing.png",
        "/etc/passwd",
        "a\0b",
        "http://127.0.0.1/x.png",
    ):
        with pytest.raises(UserError, match="no longer here"):
            store.use(path, visitor="v")


def test_a_file_goes_with_the_last_who_uses_it(store):
    shared, own = upload(store), store.new_file("b.json", visitor="anna")
    own.write_text("{}")
    for visitor in ("anna", "ben"):
        store.use(shared, visitor=visitor)
    store.leave("anna")
    assert shared.exists()
    assert not own.exists()
    assert not own.parent.exists()
    store.leave("nobody")
    store.leave("ben")
    assert list(store.served.iterdir()) == []


def test_unused_files_are_swept(store):
    old, new = upload(store, "old.png"), upload(store, "new.png")
    torn = store.work / "tmp123"  # what an upload that was broken off leaves
    torn.write_text("x")
    for path in (old, torn):
        os.utime(path, (time.time() - 101,) * 2)
    store.sweep()
    assert (old.exists(), torn.exists(), new.exists()) == (False, False, True)
    os.utime(new, (time.time() - 99,) * 2)
    store.use(new, visitor="v")  # counts from its last use
    assert time.time() - new.stat().st_mtime < 10


def test_full(store):
    assert not store.is_full()
    upload(store, size=1000)
    assert store.size() == 1000
    assert store.is_full()


def test_work_folders_and_the_store_go_away(store):
    with store.work_folder() as folder:
        (folder / "deep").mkdir()
        (folder / "deep/a.png").write_text("x")
    assert not folder.exists()
    store.close()
    assert not store.root.exists()


def test_addresses_cannot_be_guessed_and_the_folder_is_private(store):
    first, second = (store.new_file("a.json", visitor="v") for _ in range(2))
    assert len(first.parent.name) == 32
    assert first.parent != second.parent
    assert store.root.stat().st_mode & 0o077 == 0
