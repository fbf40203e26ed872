"""images: files of 16 bits a channel are scaled by the depth that their set uses, and decoded in little memory."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from adcopilot import image_depth, images
from adcopilot.errors import UserError
from adcopilot.images import MAX_PIXELS, open_image, used_bits

from .helpers.refusals import refused

pytestmark = pytest.mark.forward


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    monkeypatch.setattr(image_depth, "_told", set())


def png16(values):
    """A PNG of 16 bits a channel, (height, width, channels), which Pillow cannot write."""
    height, width, channels = values.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def tiff16(values, order="<", compression=1):
    """A TIFF of 16 bits a channel in three channels, which Pillow cannot write either."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    bits = struct.pack(order + "H" * channels, *[16] * channels)
    tags = [(256, 4, width), (257, 4, height), (258, 3, None), (259, 3, compression), (262, 3, 2), (273, 4, 0)]
    tags += [(277, 3, channels), (278, 4, height), (279, 4, len(data)), (284, 3, 1)]
    after = 8 + 2 + 12 * len(tags) + 4
    out = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, kind, value in tags:
        if tag in (258, 273):
            value = after + len(bits) * (tag == 273)
        count = channels if tag == 258 else 1
        wide = kind == 4 or count > 1
        out += struct.pack(f"{order}HHI", tag, kind, count)
        out += struct.pack(f"{order}I", value) if wide else struct.pack(f"{order}HH", value, 0)
    return out + struct.pack(f"{order}I", 0) + bits + data


def ramp(most, channels=1):
    grey = np.linspace(0, most, 20 * 24).round().astype(np.uint16).reshape(20, 24, 1)
    return np.repeat(grey, channels, axis=2) // np.arange(1, channels + 1, dtype=np.uint16)


def saved(image, suffix):
    buffer = io.BytesIO()
    image.save(buffer, suffix)
    return buffer.getvalue()


def files(most):
    """One picture of values from 0 to `most` in every kind of wide file; name → (bytes, what a channel holds)."""
    grey, colour = ramp(most)[..., 0], ramp(most, 3)
    return {
        "png": (saved(Image.fromarray(grey), "png"), grey),
        "tiff": (saved(Image.fromarray(grey), "tiff"), grey),
        "big-endian tiff": (saved(Image.frombytes("I;16B", (24, 20), grey.astype(">u2").tobytes()), "tiff"), grey),
        "big-endian image in memory": (Image.frombytes("I;16B", (24, 20), grey.astype(">u2").tobytes()), grey),
        "32-bit tiff": (saved(Image.fromarray(grey.astype(np.int32)), "tiff"), grey),
        "colour png": (png16(colour), colour),
        "colour tiff": (tiff16(colour), colour),
        "big-endian colour tiff": (tiff16(colour, ">"), colour),
        "packed colour tiff": (tiff16(colour, "<", 8), colour),
    }


@pytest.mark.parametrize("kind", files(1))
@pytest.mark.parametrize(("most", "bits"), [(255, 8), (1023, 10), (1024, 12), (4095, 12), (16383, 14), (65535, 16)])
def test_a_set_is_scaled_by_the_bits_that_it_uses(kind, most, bits):
    data, values = files(most)[kind]
    assert used_bits([data]) == bits
    opened = np.asarray(open_image(data, bits=bits))
    full = (1 << bits) - 1
    expected = np.floor(values.astype(float) * 255 / full + 0.5).astype(np.uint8)
    assert (opened == (expected if expected.ndim == 3 else expected[..., None])).all()
    if bits == 16:  # which is what a file alone is taken for
        assert np.array_equal(np.asarray(open_image(data)), opened)


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_of_16_bits_is_laid_on_white(channels):
    values = np.zeros((16, 16, channels), np.uint16)
    values[..., -1] = 4095 * 16  # of 65535: opaque is a matter of the file, not of the camera
    values[:8, :, -1] = 0
    opened = np.asarray(open_image(png16(values)))
    assert (opened[:8] == 255).all()
    assert opened[8:].max() <= 1


def test_the_depth_is_one_for_all_and_names_nothing_for_8_bits(tmp_path):
    names = []
    for index, most in enumerate((300, 4000, 2000)):
        names.append(tmp_path / f"{index}.png")
        Image.fromarray(ramp(most)[..., 0]).save(names[-1])
    Image.fromarray(ramp(255)[..., 0].astype(np.uint8)).save(tmp_path / "plain.png")
    (tmp_path / "damaged.png").write_bytes(names[0].read_bytes()[:60])
    assert used_bits([*names, tmp_path / "plain.png", tmp_path / "damaged.png", tmp_path / "none.png"]) == 12
    assert used_bits([tmp_path / "plain.png"]) is None
    assert used_bits([]) is None
    # The darker picture stays darker, which a stretch of its own would hide.
    assert np.asarray(open_image(names[0], bits=12)).max() == round(300 * 255 / 4095)
    assert (np.asarray(open_image(tmp_path / "plain.png", bits=12)).max()) == 255


def test_alone_an_image_is_scaled_by_its_full_range_and_says_so_once(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(ramp(4095)[..., 0]).save(tmp_path / name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert np.asarray(open_image(tmp_path / "a.png")).max() == 16
        open_image(tmp_path / "b.png")
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"{tmp_path / 'a.png'}: uses 12 of 16 bits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(tmp_path / "a.png", bits=12)
        open_image(saved(Image.fromarray(ramp(65535)[..., 0]), "png"))
        open_image(saved(Image.fromarray(ramp(0)[..., 0]), "png"))  # all black: nothing is known


def test_a_value_above_the_depth_is_refused_not_clipped(tmp_path):
    Image.fromarray(ramp(5000)[..., 0]).save(tmp_path / "a.png")
    with refused(r"a\.png: holds 5000, more than the 12 bits that the other images"):
        open_image(tmp_path / "a.png", bits=12)


def test_files_that_state_their_depth_keep_it():
    grey = ramp(4095)[..., 0]
    pgm = b"P5\n24 20\n4095\n" + grey.astype(">u2").tobytes()
    assert used_bits([pgm]) == 16  # scaled by its maxval as it is decoded
    assert np.asarray(open_image(pgm)).max() == 255


def of_one(value, *, others, dtype):
    """A TIFF in which one pixel differs from the others."""
    pixels = np.full((16, 16), others, dtype)
    pixels[3, 3] = value
    return saved(Image.fromarray(pixels), "tiff")


@pytest.mark.parametrize(
    ("value", "others", "said"),
    [
        (-5, 100, "32-bit pixels from -5 to 100, expected 0 to 65535"),
        (70000, 100, "32-bit pixels from 100 to 70000, expected 0 to 65535"),
        (2.5, 0.5, "float pixels from 0.5 to 2.5, expected 0 to 1"),
        (np.nan, 0.5, "float pixels from .*nan.*, expected 0 to 1"),
        (np.inf, 0.5, "float pixels from .*inf.*, expected 0 to 1"),
    ],
)
def test_numbers_that_no_picture_has(value, others, said):
    data = of_one(value, others=others, dtype=np.int32 if others == 100 else np.float32)
    with refused(f"^x: {said}"):
        open_image(data, name="x")
    assert used_bits([data]) is None


def test_floats_from_0_to_1():
    opened = open_image(of_one(1.0, others=0.5, dtype=np.float32))
    assert (opened.getpixel((0, 0)), opened.getpixel((3, 3))) == ((128,) * 3, (255,) * 3)


@pytest.mark.parametrize(("channels", "most"), [(1, MAX_PIXELS // 2), (3, MAX_PIXELS // 2)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_bound_on_pixels_counts_their_depth(channels, most):
    data = bytearray(png16(np.zeros((8, 8, channels), np.uint16)))
    side = int(most**0.5) + 1
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    for function in (open_image, images.image_size):
        with pytest.raises(UserError, match=rf"x: {side}×{side} is more than 89,478,485 pixels of 16 bits"):
            function(bytes(data), name="x")


def test_memory_of_decoding_grows_with_the_picture_only(tmp_path):
    """Bytes a pixel at the peak, of a child process: the decoder's memory is not Python's. 4 are the result's."""
    side = 3000
    Image.fromarray(np.zeros((side, side), np.uint16)).save(tmp_path / "a.png")
    code = (
        "import resource, sys; from adcopilot.images import open_image; import numpy;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024;"
        f"before = peak(); open_image({str(tmp_path / 'a.png')!r}); print((peak() - before) / {side * side})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 12


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 24\n%%EndComments\n"
    b"0.5 setgray 0 0 40 24 rectfill showpage\n%%EOF\n"
)
FOREIGN = {
    "EPS": EPS,
    "PDF": b"%PDF-1.4\n%%EOF\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="24"/>',
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "PSD": b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 24, 40, 8, 3) + b"\0" * 3000,
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 400, 240, 100) + b"\0" * 60,
    "XPM": b'/* XPM */\nstatic char *x[] = {"8 8 1 1", "a c #000000",\n' + b'"aaaaaaaa",\n' * 8 + b"};",
    "ICNS": b"icns" + struct.pack(">I", 8),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_only_the_promised_formats_are_read_whatever_the_name(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    for name in ("a.png", "a.jpg", "a.tif"):
        (tmp_path / name).write_bytes(FOREIGN[kind])
        for function in (open_image, images.image_size):
            with pytest.raises(UserError, match="expected PNG, JPEG, BMP, TIFF, WebP, GIF or PPM"):
                function(tmp_path / name)


def test_an_image_that_somebody_else_opened_is_of_a_promised_format_too(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(UserError, match="is EPS; expected PNG"):
        open_image(Image.open(io.BytesIO(EPS)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "dib", "tif", "webp", "gif", "ppm", "pgm", "mpo"])
def test_every_promised_format_is_read(tmp_path, suffix):
    picture = Image.new("L" if suffix == "pgm" else "RGB", (40, 24), "grey")
    options = {"save_all": True, "append_images": [picture]} if suffix == "mpo" else {}
    picture.save(tmp_path / f"a.{suffix}", **options)
    assert open_image(tmp_path / f"a.{suffix}").size == (40, 24)


def test_an_image_that_pillow_has_opened_is_left_as_it_is():
    values = ramp(4095, 3)
    image = Image.open(io.BytesIO(png16(values)))
    assert used_bits([image]) == 12
    assert np.asarray(open_image(image, bits=12)).max() == 255
