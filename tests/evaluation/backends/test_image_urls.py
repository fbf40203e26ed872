"""Images on their way to an endpoint: a file as it is where that shows the right picture, each made once."""

import base64
import io
import random
import struct
import threading
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from adcopilot.answering.api import ApiBackend, _close_together
from adcopilot.answering.image_urls import ImageUrls
from adcopilot.answering.items import Item
from adcopilot.answering.sizing import SENT_PIXELS, Sizing
from adcopilot.endpoint.images import own_kind
from adcopilot.errors import UserError
from adcopilot.images import open_image

from .conftest import picture
from .endpoint import Endpoint, completion

NOISE = np.random.default_rng(3).integers(0, 256, (60, 90, 3), np.uint8)


def made(**options):
    return ApiBackend(base_url="http://localhost:1/v1", model="gpt-4o", **options).image_urls


def sent(urls, path):
    """(kind, bytes) of a data URL."""
    head, data = urls(path).split(",", 1)
    return head.removeprefix("data:image/").removesuffix(";base64"), base64.b64decode(data)


def save(path, image=None, **options):
    (Image.fromarray(NOISE) if image is None else image).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "png.jpg", "grey.png", "grey.jpg", "progressive.JPG"])
def test_a_file_that_needs_no_change_is_sent_as_it_is(tmp_path, name):
    image = Image.fromarray(NOISE)
    options = {"progressive": True} if "progressive" in name else {"format": "PNG"} if name == "png.jpg" else {}
    path = save(tmp_path / name, image.convert("L") if "grey" in name else image, **options)
    kind, content = sent(made(), path)
    assert content == path.read_bytes()
    assert kind == {"png.jpg": "png", "grey.jpg": "jpeg", "a.jpg": "jpeg", "progressive.JPG": "jpeg"}.get(
        name, name.rpartition(".")[2]
    )


def png16(path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, rows = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0), (b"\0" + b"\x12\x34" * 60) * 20
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def turned(path, orientation=6, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, exif=exif, **options)


CHANGED = {
    "turned.jpg": turned,
    "mirrored.jpg": lambda path: turned(path, 2),
    "turned.webp": lambda path: turned(path, 3),
    "alpha.png": lambda path: save(path, Image.fromarray(NOISE).convert("RGBA")),
    "palette.png": lambda path: save(path, Image.fromarray(NOISE).quantize(32)),
    "clear.png": lambda path: save(path, transparency=(0, 0, 0)),
    "16.png": lambda path: save(path, Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)),
    "16rgb.png": png16,
    "cmyk.jpg": lambda path: save(path, Image.fromarray(NOISE).convert("CMYK")),
    "moving.png": lambda path: save(path, save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
    "moving.webp": lambda path: save(path, save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
    "a.bmp": save,
    "a.tif": save,
}


@pytest.mark.filterwarnings("ignore:.*frames or pages")
@pytest.mark.parametrize("name", CHANGED)
def test_a_file_that_shows_something_else_is_encoded_again(tmp_path, name):
    path = CHANGED[name](tmp_path / name)
    assert own_kind(path) is None
    kind, content = sent(made(), path)
    assert content != path.read_bytes()
    assert kind == ("jpeg" if name.endswith("jpg") else "png")
    again, wanted = open_image(content), open_image(path)
    assert again.size == wanted.size
    if kind == "png":
        assert again.tobytes() == wanted.tobytes()
    exact = ApiBackend(base_url="http://localhost:1/v1", model="Qwen2.5-VL-7B", image_min_pixels=1).image_urls
    assert sent(exact, path)[0] == "png"


def test_a_large_photograph_is_sent_small_and_that_is_said_once(tmp_path, capsys):
    image = Image.fromarray(np.random.default_rng(0).integers(90, 140, (3000, 3000, 3), np.uint8))
    paths = [save(tmp_path / f"{name}.jpg", image, quality=90) for name in "ab"]
    urls = made()
    for path in paths:
        kind, content = sent(urls, path)
        size = Image.open(io.BytesIO(content)).size
        assert kind == "jpeg"
        assert size == (1448, 1448)
        assert len(content) < path.stat().st_size
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "at most 2,097,152 pixels (a.jpg has 9,000,000); --image-max-pixels N changes it" in err
    assert sent(made(image_max_pixels=9_000_000), paths[0])[1] == paths[0].read_bytes()
    assert Image.open(io.BytesIO(sent(made(image_side=512), paths[0])[1])).size == (512, 512)
    assert capsys.readouterr().err == ""


def test_sizes_are_settings_that_answers_depend_on():
    def images(model, **options):
        return ApiBackend(base_url="http://localhost:1/v1", model=model, **options).describe()["images"]

    assert (images("gpt-4o")["largest"], images("gpt-4o")["jpeg_quality"]) == (SENT_PIXELS, 95)
    assert images("gpt-4o", image_max_pixels=10_000)["largest"] == 10_000
    assert "largest" not in images("gpt-4o", image_side=512)
    # Those of AD-Copilot and Qwen2.5-VL are as they were: their runs go on.
    for model in ("ad-copilot", "Qwen2.5-VL-7B"):
        assert images(model).keys() == {"side", "training", "processor", "resized_before_sending"}


def test_a_damaged_file_is_an_error_each_time(tmp_path):
    path = save(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:2000])
    urls = made()
    for _ in range(2):
        with pytest.raises(UserError, match="truncated"):
            urls(path)
    save(path)
    assert sent(urls, path)[1] == path.read_bytes()


def benchmark(folder, *, shots, groups=24, questions=4, templates=10):
    """Groups that draw their templates from a few, as MMAD's do, and ask several questions each."""
    dice = random.Random(shots)
    pool = [picture(folder / f"t{index}.png", (30, 30), index) for index in range(templates)]
    found = []
    for group in range(groups):
        images = (*dice.sample(pool, shots), picture(folder / f"q{group}.png", (30, 30), 100 + group))
        found += [
            Item(key=f"{group}/{index}", group=str(group), images=images, prefix=tuple(range(shots + 1)),
                 question=f"{index}?")
            for index in range(questions)
        ]  # fmt: skip
    return found


@pytest.fixture
def count(monkeypatch):
    """Image → how often it was encoded."""
    found, plain = Counter(), ImageUrls.encode
    monkeypatch.setattr(ImageUrls, "encode", lambda self, path: found.update([path]) or plain(self, path))
    return found


@pytest.mark.parametrize("shots", range(9))
def test_each_image_is_encoded_once(tmp_path, count, shots):
    items = benchmark(tmp_path, shots=shots)
    for concurrency in range(1, 17):
        count.clear()
        backend = made(concurrency=concurrency)
        groups = [items[start : start + 4] for start in range(0, len(items), 4)]
        order = _close_together(groups, concurrency, urls=backend)
        backend.expect(order)
        with ThreadPoolExecutor(concurrency) as threads:
            list(threads.map(lambda item, urls=backend: [urls(path) for path in item.images], order))
        assert set(count.values()) == {1}
        assert set(count) == {path for item in items for path in item.images}


def test_each_image_is_encoded_once_on_its_way_to_an_endpoint(tmp_path, count):
    items = benchmark(tmp_path, shots=8, groups=12, questions=2)
    with Endpoint(lambda body, number: completion("A")) as endpoint:
        backend = ApiBackend(base_url=endpoint.url, model="gpt-4o", concurrency=8)
        assert len(list(backend.answer(items, max_new_tokens=1))) == len(items)
        assert len(list(backend.answer(items[::2], max_new_tokens=1))) == 12  # asked again, as conversations do
    assert set(count.values()) == {1}


def test_bytes_are_bounded_and_what_is_needed_last_goes_first(tmp_path, monkeypatch):
    items = benchmark(tmp_path, shots=2, groups=40)
    size = max(len(ImageUrls(sizing=Sizing(), exact=True)(path)) for path in items[0].images)
    room = 14 * size
    urls = ImageUrls(sizing=Sizing(), exact=True, room=room)
    count, plain = Counter(), urls.encode
    monkeypatch.setattr(urls, "encode", lambda path: count.update([path]) or plain(path))
    order = _close_together([items[start : start + 4] for start in range(0, len(items), 4)], 16, urls=urls)
    assert sorted(item.key for item in order) == sorted(item.key for item in items)
    urls.expect(order)
    for item in order:
        for path in item.images:
            urls(path)
            assert urls._held <= room
            assert urls._held == sum(len(url.result()) for url in urls._urls.values())
    # Ten templates come again and again and stay; a query, which comes no more, goes.
    assert set(count.values()) == {1}


def test_two_threads_that_want_the_same_image_make_it_once(tmp_path, monkeypatch):
    path = picture(tmp_path / "a.png", (30, 30), 1)
    urls, begun, go = ImageUrls(sizing=Sizing(), exact=True), threading.Event(), threading.Event()
    plain, count = urls.encode, []

    def slow(path):
        count.append(path)
        begun.set()
        go.wait(60)
        return plain(path)

    monkeypatch.setattr(urls, "encode", slow)
    found = []
    threads = [threading.Thread(target=lambda: found.append(urls(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    go.set()
    for thread in threads:
        thread.join()
    assert len(count) == 1
    assert len(set(found)) == 1
