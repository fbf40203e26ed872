"""masks: one rule for what a mask marks, whoever drew it and however it was stored."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFilter

from adcopilot.errors import UserError
from adcopilot.masks import MaskSizeError, check_size, marked, read_mask, read_mask_folder
from adcopilot.masks.components import mask_components

from ..helpers.refusals import refused

pytestmark = pytest.mark.forward

SIZE = (64, 48)
TRUE = np.zeros((48, 64), bool)
TRUE[10:20, 12:30] = True
OTHER = np.zeros((48, 64), bool)
OTHER[30:36, 40:50] = True


def painted(*values, dtype=np.uint8):
    """The two regions in two numbers on a background: (background, first, second)."""
    back, first, second = values
    found = np.full(TRUE.shape, back, dtype)
    found[TRUE], found[OTHER] = first, second
    return found


def is_marked(found, expected=TRUE | OTHER):
    return np.array_equal(found.values > 0, expected)


@pytest.mark.parametrize(("back", "value"), [(0, 1), (0, 255), (0, 128), (38, 75), (254, 255), (0, 3), (255, 0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_two_numbers_are_background_and_defect_whatever_they_are(back, value, dtype):
    found = marked(painted(back, value, value, dtype=dtype))
    assert found.kind == "two-level"
    # 0 is the background wherever it is: white on black is what a mask is, and black on white is inverted.
    assert is_marked(found, ~(TRUE | OTHER) if value == 0 else TRUE | OTHER)


def test_truth_values_and_one_number():
    assert is_marked(marked(TRUE), TRUE)
    for value, everything in ((0, False), (1, True), (255, True)):
        found = marked(np.full((48, 64), value, np.uint8))
        assert found.kind == "one-level"
        assert found.values.all() == everything
        assert marked(np.full((48, 64), value, np.uint8), inverted=True).values.any() != everything


@pytest.mark.parametrize(("first", "second"), [(1, 2), (7, 31), (85, 170), (3, 200), (300, 40_000)])
def test_few_numbers_are_classes(first, second):
    values = painted(0, first, second, dtype=np.uint16 if second > 255 else np.uint8)
    found = marked(values)
    assert found.kind == "classes"
    assert np.array_equal(found.values, values)  # the numbers are kept: they name the kind of defect
    assert is_marked(marked(values, inverted=True), ~(TRUE | OTHER))


def test_a_class_of_thin_lines_is_none_the_less_one():
    values = painted(0, 1, 2)
    values[40, 3:20] = 3
    assert (marked(values).values[40, 3:20] == 3).all()


def test_above_the_middle_of_its_own_range_and_what_is_faint_is_told():
    values = np.zeros((48, 64), np.uint8)
    for step, value in enumerate((40, 90, 101, 150, 201), 1):  # a soft mask whose brightest is 201
        values[10 + step : 30 - step, 10 + step : 40 - step] = value
    values[40, 50:54] = [20, 60, 90, 30]
    found = marked(values)
    assert found.kind == "many-valued with faint regions"
    assert is_marked(found, values > 100)
    assert is_marked(marked(values, threshold=0.0), values > 0)
    assert is_marked(marked(values, threshold=0.2), values > 40)
    assert marked(values, threshold=0.2).kind == "many-valued"


def drawn(kind):
    """Eight defects: blobs, or lines of so many pixels."""
    rng = np.random.default_rng(3)
    image = Image.new("L", (400, 300))
    draw = ImageDraw.Draw(image)
    for index in range(8):
        x, y, angle, reach = 100 * (index % 4) + 50, 150 * (index // 4) + 75, rng.uniform(0, np.pi), 40
        across, down = reach * np.cos(angle), reach * np.sin(angle)
        if kind == "blobs":
            draw.ellipse((x - 20, y - 12, x + 20, y + 12), fill=255)
        else:
            draw.line((x - across, y - down, x + across, y + down), fill=255, width=kind)
    return image


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["blobs", 2, 3, 6])
@pytest.mark.parametrize("method", ["LANCZOS", "BICUBIC", "BILINEAR", "HAMMING"])
@pytest.mark.parametrize("factor", [0.5, 0.7, 1.37, 2])
def test_a_resampled_mask_has_as_many_regions_as_were_drawn(kind, method, factor):
    image = drawn(kind)
    small = image.resize((int(400 * factor), int(300 * factor)), Image.Resampling[method])
    found = marked(np.asarray(small))
    assert "many-valued" in found.kind
    regions = mask_components(found.values > 0)
    assert len(regions) == 8
    true = sum(region.area for region in mask_components(np.asarray(image) > 0)) * factor**2
    assert sum(region.area for region in regions) == pytest.approx(true, rel=0.1 if kind == "blobs" else 0.75)


@pytest.mark.parametrize("kind", ["blobs", 3, 6])
@pytest.mark.parametrize("quality", [30, 60, 90])
def test_a_jpeg_s_noise_is_no_defect(tmp_path, kind, quality):
    (tmp_path / "m.jpg").write_bytes(jpeg(drawn(kind), quality))
    assert len(mask_components(read_mask(tmp_path / "m.jpg").values > 0)) == 8
    assert len(mask_components(marked(np.asarray(drawn(kind).filter(ImageFilter.GaussianBlur(2)))).values > 0)) == 8
    (tmp_path / "e.jpg").write_bytes(jpeg(Image.fromarray((TRUE * 3).astype(np.uint8)), quality))
    assert not read_mask(tmp_path / "e.jpg").values.any()


def test_inverted_is_the_same_mask_the_other_way_round():
    soft = np.asarray(drawn("blobs").resize((200, 150), Image.Resampling.LANCZOS))
    for values in (soft, painted(0, 255, 255), painted(0, 9, 9)):
        black_on_white = values.max() - values
        assert np.array_equal(marked(black_on_white, inverted=True).values > 0, marked(values).values > 0)
    assert marked(255 - soft, inverted=True).kind == "inverted many-valued"


def saved(tmp_path, image, **options):
    image.save(tmp_path / "m.png", **options)
    return read_mask(tmp_path / "m.png")


def in_colours(mode, back, first, second):
    image = Image.new(mode, SIZE, back)
    image.paste(first, (12, 10, 30, 20))
    image.paste(second, (40, 30, 50, 36))
    return image


@pytest.mark.parametrize(
    "colours",
    [
        ("RGB", "black", "red", "lime"),
        ("RGB", "white", "red", "blue"),
        ("RGB", "white", "red", "red"),
        ("RGB", (128, 0, 128), "yellow", "yellow"),  # a colour map's lowest colour
        ("RGB", "black", "white", "white"),
        ("RGBA", (0, 0, 0, 0), "red", "red"),
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 255)),  # opacity alone
        ("RGBA", (255, 255, 255, 0), (255, 255, 255, 255), (255, 255, 255, 255)),
        ("RGBA", "black", "white", "white"),
        ("RGBA", (0, 0, 0, 0), "red", "blue"),
        ("LA", (0, 0), (255, 255), (255, 255)),
        ("L", 0, 255, 255),
        ("1", 0, 1, 1),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_colours_and_opacity(tmp_path, colours):
    suffix = "tif" if colours[0] == "CMYK" else "png"
    in_colours(*colours).save(tmp_path / f"m.{suffix}")
    assert is_marked(read_mask(tmp_path / f"m.{suffix}"))


def test_a_transparent_margin_is_background(tmp_path):
    image = in_colours("RGBA", "black", "white", "white")
    image.paste((0, 0, 0, 0), (0, 0, 5, 48))
    assert is_marked(saved(tmp_path, image))


@pytest.mark.parametrize(
    ("palette", "indices", "expected"),
    [
        ([0, 0, 0, 128, 0, 0, 0, 128, 0], (0, 1, 2), (0, 1, 2)),  # class numbers, in a colour map
        ([0, 0, 0, 255, 255, 255], (0, 1, 1), (0, 255, 255)),
        ([255, 255, 255, 0, 0, 0], (1, 0, 0), (0, 255, 255)),  # the order of a palette says nothing of its greys
        ([255, 0, 0, 255, 255, 255, 0, 0, 255], (1, 0, 2), (0, 1, 3)),  # red and blue on white: 0 is no background
    ],
)
def test_palettes(tmp_path, palette, indices, expected):
    image = Image.frombytes("P", SIZE, painted(*indices).tobytes())
    image.putpalette(palette)
    assert np.array_equal(saved(tmp_path, image).values, painted(*expected))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_what_is_no_finite_number_is_refused_by_name(tmp_path, value, suffix):
    values = painted(0, 1, 1, dtype=np.float32)
    values[5, 5:8] = value
    path = tmp_path / f"m.{suffix}"
    np.save(path, values) if suffix == "npy" else Image.fromarray(values).save(path)
    with refused(rf"m\.{suffix}: 3 of 3072 pixels of the mask are no finite numbers"):
        read_mask(path)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float16, np.float32, np.float64])
def test_arrays_of_numpy(tmp_path, dtype):
    np.save(tmp_path / "m.npy", painted(0, 1, 1, dtype=dtype))
    assert is_marked(read_mask(tmp_path / "m.npy"))
    np.save(tmp_path / "m.npy", painted(0, 1, 1, dtype=dtype)[None])
    assert is_marked(read_mask(tmp_path / "m.npy"))


def test_arrays_that_are_none(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5)))
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name in "abc":
        with refused(rf"{name}\.npy: "):
            read_mask(tmp_path / f"{name}.npy")


def test_sixteen_bits(tmp_path):
    Image.fromarray(painted(0, 1, 1, dtype=np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(painted(0, 4095, 4095, dtype=np.uint16)).save(tmp_path / "b.tif")
    assert is_marked(read_mask(tmp_path / "a.png"))
    assert is_marked(read_mask(tmp_path / "b.tif"))


def test_of_several_pages_none_is_taken(tmp_path):
    """Tools write a page for each defect."""
    page = Image.new("L", (16, 16))
    with pytest.raises(UserError, match="2 frames or pages, expected one; save each as a mask of its own"):
        saved(tmp_path, page, save_all=True, append_images=[Image.new("L", (16, 16), 255)])


def test_another_size_is_never_made_to_fit():
    check_size(TRUE, SIZE, name="m")
    with pytest.raises(
        MaskSizeError, match=r"m: the mask has 64×48 pixels but its image 32×24; expected the same size$"
    ):
        check_size(TRUE, (32, 24), name="m")
    with pytest.raises(MaskSizeError, match=r"image 48×64; .* turned alike: images are turned as their EXIF says"):
        check_size(TRUE, (48, 64), name="m")


def test_a_folder_is_a_union_and_says_the_softest_kind(tmp_path):
    Image.fromarray(painted(0, 255, 0)).save(tmp_path / "0.png")
    Image.fromarray(np.asarray(drawn("blobs").resize(SIZE, Image.Resampling.BICUBIC))).save(tmp_path / "1.png")
    assert read_mask_folder(tmp_path).kind.startswith("many-valued")


@given(
    arrays.arrays(
        st.sampled_from([np.bool_, np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64]),
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12),
    ),
    st.sampled_from([None, 0.0, 0.3, 0.5]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_numbers_give_a_mask_or_one_line(values, threshold, inverted, lossy):
    options = {"threshold": threshold, "inverted": inverted, "lossy": lossy}
    if not np.isfinite(values).all():
        with pytest.raises(UserError, match=r"^mask: \d+ of \d+ pixels of the mask are no finite numbers[^\n]*$"):
            marked(values, **options)
        return
    found = marked(values, **options)
    assert found.values.shape == values.shape
    assert found.values.dtype.kind == "u"
    if values.size and len(np.unique(values)) == 2 and not lossy:
        back = 0 if (values == 0).any() else values.min()
        assert np.array_equal(found.values > 0, (values == back) == inverted)


def test_the_outline_of_vocs_masks_is_no_defect():
    """Thin, and 255: it alone was above the middle, and the region that it is drawn around was left out."""
    values = np.zeros((40, 50), np.uint8)
    values[10:20, 10:30] = 255
    values[12:18, 12:28] = 1
    found = marked(values)
    assert found.kind == "classes"
    assert found.values.sum() == 6 * 16
    values[12:18, 12:28] = 200  # a soft edge
    assert marked(values).values.sum() == 10 * 20
