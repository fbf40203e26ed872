"""Files whose own lists are the attack: refused from the list, while pictures of all kinds pass."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcopilot.demo.door.layout import MOST_STRIPS, check_layout
from adcopilot.demo.limits import Limits, check_pixels
from adcopilot.errors import UserError

from ...inspect.conftest import part


def tiff(*pages, order="<", big=False, tail=b""):
    """A TIFF of directories with (tag, type, number of values, value or place) entries."""
    data = bytearray((b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42))
    data += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    for number, entries in enumerate(pages):
        data += struct.pack(f"{order}Q" if big else f"{order}H", len(entries))
        for entry in entries:
            data += struct.pack(f"{order}HHQQ" if big else f"{order}HHII", *entry)
        after = len(data) + (8 if big else 4)
        data += struct.pack(f"{order}Q" if big else f"{order}I", after if number + 1 < len(pages) else 0)
    return bytes(data) + tail


def png(*chunks):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(17 * 16))
    parts = [chunk(b"IHDR", header), *(chunk(*one) for one in chunks), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


JPEG = encoded(part(1), "JPEG")
GIF = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0, 0, 0)
TOO_MUCH = {
    "scans": (JPEG[:2] + b"\xff\xda\0\2" * 2000, "2000 scans"),
    "segments": (JPEG[:2] + b"\xff\xe1\0\2" * 100_000 + JPEG[2:], "segments before its pixels"),
    "padded segments": (JPEG[:2] + b"\xff\xff\xff\xe1\0\2" * 100_000 + JPEG[2:], "segments before its pixels"),
    "junk": (JPEG[:2] + bytes(1 << 20) + JPEG[2:], "bytes between two segments"),
    "chunks": (png(*[(b"tEXt", b"")] * 10_000), "blocks"),
    "exif": (png((b"eXIf", b"II*\0" + bytes(70_000))), "bytes of EXIF"),
    "webp": (b"RIFF\0\0\0\0WEBP" + b"JUNK\0\0\0\0" * 10_000, "blocks"),
    "webp exif": (b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", 1 << 20) + bytes(1 << 20), "bytes of EXIF"),
    "strips": (tiff([(273, 4, 6_000_000, 8)], tail=bytes(24_000_000)), "6,000,000 strips"),
    "tiles": (tiff([(324, 16, 6_000_000, 8)], big=True, tail=bytes(48_000_000)), "6,000,000 strips"),
    "the same bytes again": (tiff([(700, 1, 1_000_000, 8)] * 500, tail=bytes(1_000_000)), "list of 500,000,000 bytes"),
    "the same, big": (tiff([(700, 7, 1 << 40, 8)], big=True), "list of 1,099,511,627,776 bytes"),
    "pages": (tiff(*[[]] * 2000, order=">"), "more than 1000 pages"),
    "frames": (GIF + (b"," + bytes(8) + b"\0\2\0") * 2000, "more than 1000 frames"),
    "blocks": (GIF + b"!\xf9" + b"\1x" * 1_100_000, "500,000 blocks"),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_lists_that_are_too_long(kind, tmp_path):
    data, words = TOO_MUCH[kind]
    (tmp_path / "a.png").write_bytes(data)
    start = time.process_time()
    with pytest.raises(UserError, match=f"^a.png: has .*{words}.*; open it and save it again as a PNG$"):
        check_pixels(tmp_path / "a.png", name="a.png", limits=Limits())
    assert time.process_time() - start < 3


def test_pictures_pass(tmp_path):
    image = part(2, size=(300, 200))
    wide = Image.fromarray(np.arange(60_000, dtype=np.uint16).reshape(200, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    pages = [part(number) for number in range(20)]
    for number, data in enumerate(
        [
            *(encoded(image, form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")),
            encoded(image, "JPEG", progressive=True, exif=exif, icc_profile=bytes(100_000)),
            encoded(image, "PNG", exif=exif),
            encoded(image, "WEBP", exif=exif, lossless=True),
            encoded(image, "TIFF", compression="tiff_lzw", strip_size=300),
            encoded(image, "TIFF", big_tiff=True, exif=exif),
            encoded(image, "MPO", save_all=True, append_images=[image]),
            encoded(wide, "PNG"),
            encoded(wide, "TIFF"),
            encoded(image.convert("RGBA"), "PNG"),
            *(encoded(pages[0], form, save_all=True, append_images=pages) for form in ("GIF", "TIFF", "WEBP", "PNG")),
        ]
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        assert check_pixels(path, name="a", limits=Limits())


@pytest.mark.parametrize("strips", [1, MOST_STRIPS])
def test_the_largest_lists_pass(tmp_path, strips):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff([(273, 4, strips, 8), (256, 4, 1, 8)], tail=bytes(4 * strips)))
    check_layout(path, name="a")


@pytest.mark.parametrize("at", [1 << 62, (1 << 64) - 1])
def test_a_list_beyond_the_end_is_left_to_the_decoder(tmp_path, at):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II+\0" + struct.pack("<IQ", 8, at))
    check_layout(path, name="a")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_lists_are_refused_or_left_to_the_decoder(data, tmp_path_factory):
    whole = bytearray(data.draw(st.sampled_from([TOO_MUCH[kind][0][:3000] for kind in TOO_MUCH] + [JPEG, png()])))
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, min(len(whole), 200) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    said = ""
    try:
        check_layout(path, name="a")
    except UserError as error:
        said = str(error)
    assert said == "" or (said.startswith("a: has ") and "\n" not in said)


def test_what_decoding_takes_is_bounded_by_depth_and_transparency(tmp_path):
    """A few kilobytes of file, hundreds of megabytes of memory."""
    limits = Limits(pixels=1_000_000)
    fine, large = (600, 600), (800, 800)
    clear = Image.new("P", large)
    clear.save(tmp_path / "palette.png", transparency=0)
    for mode in ("RGBA", "LA"):
        Image.new(mode, large).save(tmp_path / f"{mode}.png")
        Image.new(mode, fine).save(tmp_path / f"small {mode}.png")
    Image.new("RGB", large).save(tmp_path / "rgb.png")
    Image.fromarray(np.zeros(large, np.uint16)).save(tmp_path / "wide.png")
    for name in ("palette", "RGBA", "LA"):
        with pytest.raises(UserError, match=r"^a: 800×800 pixels with transparency are more than the 0.4 million"):
            check_pixels(tmp_path / f"{name}.png", name="a", limits=limits)
    for name in ("rgb", "wide", "small RGBA", "small LA"):
        check_pixels(tmp_path / f"{name}.png", name="a", limits=limits)
