"""images.open_image: every kind of file becomes the same upright 8-bit RGB, or one line that names it.

Of more than 8 bits a channel: `test_image_depth.py`.
"""

import io
import os
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from adcopilot.errors import UserError
from adcopilot.images import MAX_PIXELS, MIN_SIDE, image_size, open_image, photograph_names, resize_for_training

from .helpers.refusals import refused

pytestmark = pytest.mark.forward


def picture(width=40, height=24):
    """Asymmetric in both axes, so that every wrong orientation shows."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], -1).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_exif_orientation_gives_the_upright_picture_and_its_size(tmp_path, orientation, suffix):
    upright = picture()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that produces the stored pixels
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"{orientation}.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    stored.save(path, exif=exif, **options)
    assert image_size(path) == (40, 24)
    opened = open_image(path)
    assert opened.size == (40, 24)
    assert opened.mode == "RGB"
    assert opened.info == {}
    difference = np.abs(np.asarray(opened, int) - np.asarray(upright, int))
    assert difference.mean() < 4 if suffix == "jpg" else difference.max() == 0
    # Opening the result again must not turn it a second time.
    assert open_image(opened).size == (40, 24)


def test_nonsense_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    picture().save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == image_size(tmp_path / "a.jpg") == (40, 24)


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = open_image(tmp_path / "a.jpg").getpixel((8, 8))
    assert red > 240
    assert green < 15
    assert blue < 15


def test_alpha_is_on_white(tmp_path):
    rgba = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    rgba.paste((255, 0, 0, 255), (0, 0, 8, 16))
    rgba.putpixel((12, 12), (0, 0, 0, 51))
    rgba.save(tmp_path / "a.png")
    opened = open_image(tmp_path / "a.png")
    assert opened.getpixel((2, 2)) == (255, 0, 0)
    assert opened.getpixel((10, 2)) == (255, 255, 255)
    assert opened.getpixel((12, 12)) == (204, 204, 204)
    rgba.convert("LA").save(tmp_path / "la.png")
    assert open_image(tmp_path / "la.png").getpixel((10, 2)) == (255, 255, 255)


def test_palette_and_its_transparency(tmp_path):
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30, 0, 0, 250])
    palette.putpixel((3, 3), 2)
    palette.save(tmp_path / "plain.png")
    assert open_image(tmp_path / "plain.png").getpixel((0, 0)) == (10, 200, 30)
    palette.save(tmp_path / "clear.png", transparency=1)
    opened = open_image(tmp_path / "clear.png")
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((3, 3)) == (0, 0, 250)


def test_rgb_with_a_transparent_colour(tmp_path):
    Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "HSV", "YCbCr", "LAB"])
def test_other_modes(tmp_path, mode):
    white = {"LAB": (255, 128, 128), "HSV": (0, 0, 255), "YCbCr": (255, 128, 128)}.get(mode, 255)
    image = Image.new(mode, (16, 16), white)
    if mode not in ("HSV", "YCbCr"):  # Pillow writes no TIFF of these that it can read
        image.save(tmp_path / "a.tif")
        image = tmp_path / "a.tif"
    assert min(open_image(image).getpixel((4, 4))) >= 253


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_animated_gives_the_first_frame_and_one_warning(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a.{suffix}"
    options = {"webp": {"lossless": True}}.get(suffix, {})
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert open_image(path).getpixel((5, 5)) == (255, 0, 0)
    assert [str(item.message) for item in caught] == [f"{path}: 3 frames or pages; only the first is used"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif", "webp"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
def test_truncated_files_say_so_in_one_line(tmp_path, suffix, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / f"whole.{suffix}")
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(data[: max(4, int(len(data) * part))])
    with refused() as error:
        open_image(path)
    assert str(error.value).startswith(f"{path}: ")


def test_damaged_bytes_never_escape_as_another_exception():
    rng = random.Random(0)
    for suffix in ("png", "jpg", "tif", "webp", "gif", "bmp"):
        buffer = io.BytesIO()
        picture().save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
        good = buffer.getvalue()
        for _ in range(40):
            data = bytearray(good)
            for _ in range(rng.randint(1, 12)):
                data[rng.randrange(min(len(data), 200))] = rng.randrange(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                message = None
                try:
                    open_image(bytes(data), name="x")
                except UserError as error:
                    message = str(error)
            assert message is None or (message.startswith("x: ") and "\n" not in message)


def test_missing_empty_folder_text_and_null(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image\n")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    cases = {
        tmp_path / "none.png": "no such image file",
        tmp_path / "empty.png": "0 bytes",
        tmp_path / "text.png": "damaged at its start, or not an image",
        tmp_path: "is a folder",
        tmp_path / "pipe.png": "is a named pipe, expected an image file",  # to open it would wait for ever
        tmp_path / "device.png": "is a device",
        tmp_path / "loop.png": "cannot be read",
        tmp_path / "folder.png": "is a folder",
        "a\0b.png": "cannot be read",
    }
    for path, expected in cases.items():
        for function in (open_image, image_size):
            with refused(expected) as error:
                function(path)
            assert str(error.value).startswith(f"{path}: ")
    with pytest.raises(UserError, match="got int"):
        open_image(3)


@pytest.mark.parametrize(
    ("name", "content"),
    [("part.HEIC", ""), ("part.jp2", ""), ("part.NEF", "TIFF"), ("part.dng", "TIFF")],
)
def test_formats_of_telephones_and_cameras_are_named(tmp_path, name, content):
    """A raw file is a TIFF whose first page is a thumbnail: nothing is to be said of that."""
    if content:
        Image.new("RGB", (160, 120)).save(tmp_path / name, format=content)
    else:
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    for read in (open_image, image_size):
        with refused(rf"{name}: a photograph in a format that is not read; convert it to PNG or JPEG"):
            read(tmp_path / name)


def test_a_jpeg_with_a_telephones_suffix_is_read(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "part.heic", format="JPEG")
    assert open_image(tmp_path / "part.heic").size == (20, 10)


def test_photographs_of_a_folder():
    names = ["a.NEF", "a.jpg", "b.heic", "c.txt", "d.PNG", "deep/a.nef", "e.pdf"]
    assert photograph_names(names) == ["a.jpg", "b.heic", "d.PNG", "deep/a.nef"]


def test_smallest_size(tmp_path):
    for size in ((1, 1), (MIN_SIDE - 1, 100)):
        Image.new("RGB", size).save(tmp_path / "a.png")
        for function in (open_image, image_size):
            with pytest.raises(UserError, match=f"a.png: {size[0]}×{size[1]} pixels is too small"):
                function(tmp_path / "a.png")
    Image.new("RGB", (MIN_SIDE, MIN_SIDE)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").size == image_size(tmp_path / "a.png") == (MIN_SIDE, MIN_SIDE)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_from_the_header(tmp_path):
    def header(width, height):
        data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data))
        return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1 << 20) + b"IDAT"

    for side in (13_378, 100_000):
        assert side * side > MAX_PIXELS
        (tmp_path / "bomb.png").write_bytes(header(side, side))
        for function in (open_image, image_size):
            with pytest.raises(UserError, match=r"bomb\.png: .*178,956,970 pixels"):
                function(tmp_path / "bomb.png")


def test_every_kind_of_source_gives_the_same(tmp_path):
    path = tmp_path / "a.png"
    picture().save(path)
    data = path.read_bytes()
    with open(path, "rb") as file:
        sources = [path, str(path), data, file, {"bytes": data, "path": None}, {"bytes": None, "path": str(path)}]
        for source in [*sources, Image.open(path)]:
            assert np.array_equal(np.asarray(open_image(source)), np.asarray(picture()))


def test_an_image_given_is_not_changed():
    image = picture()
    image.info["transparency"] = (0, 0, 0)
    before = image.tobytes()
    open_image(image).paste("red", (0, 0, 40, 24))
    assert image.tobytes() == before
    assert image.info == {"transparency": (0, 0, 0)}


def test_resize_equals_llamafactory_pixel_for_pixel():
    plugins = pytest.importorskip("llamafactory.data.mm_plugin", reason="needs LlamaFactory ([train] extra)")
    theirs = plugins.get_mm_plugin(name="qwen2_vl", image_token="<|image_pad|>")
    rng = random.Random(1)
    for _ in range(60):
        width, height = (int(2 ** rng.uniform(3, 10)) for _ in range(2))
        limits = {"image_max_pixels": rng.choice([56 * 56, 100_000, 768 * 768]), "image_min_pixels": 32 * 32}
        image = Image.effect_noise((width, height), 80).convert("RGB")
        ours = resize_for_training(image, **limits)
        expected = theirs._preprocess_image(image, **limits)
        assert ours.size == expected.size, (width, height, limits)
        assert ours.tobytes() == expected.tobytes(), (width, height, limits)
    for size in ((2000, 8), (8, 2000)):  # beyond an aspect ratio of 200
        limits = {"image_max_pixels": 768 * 768, "image_min_pixels": 1}
        assert (
            resize_for_training(Image.new("RGB", size), **limits).size
            == theirs._preprocess_image(Image.new("RGB", size), **limits).size
        )
