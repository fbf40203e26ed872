"""References: taking them apart, staying inside the root, and the pixels and masks they mean."""

import hashlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from adcopilot.chat_ad.sources import references
from adcopilot.chat_ad.sources.references import (
    MaskSizeError,
    OutsideRootError,
    content_sha256,
    format_reference,
    mask_components,
    mask_values,
    open_mask,
    open_reference,
    parse_reference,
    reference_size,
)
from adcopilot.errors import UserError

from ..pictures import BOX, SIZE, flood, mask_of, picture, save

PART = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12)
PATH = st.lists(PART.filter(lambda part: part != ".."), min_size=1, max_size=4).map("/".join)
KEYS = st.dictionaries(st.sampled_from(["view", "h5", "index", "value", "coco"]), st.text(max_size=10), max_size=3)


@settings(deadline=None)
@given(path=PATH, fragment=KEYS)
def test_what_is_formatted_is_parsed_again(path, fragment):
    reference = format_reference(path, **fragment)
    if path.startswith("\\") or path[1:3] in (":/", ":\\"):
        return  # a drive or an absolute path of Windows, which is refused
    parsed = parse_reference(reference)
    assert (parsed.path, dict(parsed.fragment)) == (path, fragment)
    assert str(parsed) == reference


@pytest.mark.parametrize("name", ["a#1.png", "#", "b#view=1", "c%23.png", "d e.png", "ü&=.png"])
def test_any_file_name_can_be_referred_to(tmp_path, name):
    save(tmp_path / "plain.png", picture(b"a"))
    (tmp_path / "plain.png").rename(tmp_path / name)
    assert open_reference(tmp_path, format_reference(name)).size == SIZE


@pytest.mark.parametrize(
    "reference",
    [
        *("/etc/passwd", "../a.png", "a/../../b.png", "", "#view=1/5", "\\\\server\\a.png", "C:/a.png", "a\0b.png"),
        *("a.png#1.png", "a.png#colour=red", "a.png#view", "a.png#view=0/5&view=1/5"),
    ],
)
def test_what_is_no_reference_is_refused(reference):
    with pytest.raises(UserError, match="expected"):
        parse_reference(reference)


@pytest.mark.parametrize("view", ["5/5", "0/0", "-1/5", "1", "1/5/2", "a/b", ""])
def test_a_view_outside_its_strip_is_refused(tmp_path, view):
    save(tmp_path / "a.png", picture(b"a"))
    with pytest.raises(UserError, match=r"expected K/N"):
        open_reference(tmp_path, f"a.png#view={view}")


def test_a_link_may_stay_inside_the_root_but_not_leave_it(tmp_path):
    root = tmp_path / "root"
    save(root / "a.png", picture(b"a"))
    save(tmp_path / "root2/b.png", picture(b"b"))
    (root / "inside.png").symlink_to("a.png")
    (root / "outside.png").symlink_to(tmp_path / "root2/b.png")
    (root / "folder").symlink_to(tmp_path / "root2")
    assert reference_size(root, "inside.png") == SIZE
    for reference in ("outside.png", "folder/b.png"):
        for function in (open_reference, reference_size, content_sha256):
            with pytest.raises(OutsideRootError, match="leads out of"):
                function(root, reference)
        with pytest.raises(OutsideRootError):
            open_mask(root, reference, size=SIZE)


def test_a_root_that_is_itself_a_link_is_fine(tmp_path):
    save(tmp_path / "real/a.png", picture(b"a"))
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert open_reference(tmp_path / "root", "a.png").size == SIZE


def test_views_are_the_equal_parts_of_a_strip(tmp_path):
    strip = picture(b"strip", (5 * 20 + 3, 20))
    save(tmp_path / "a.png", strip)
    for index in range(5):
        reference = f"a.png#view={index}/5"
        assert reference_size(tmp_path, reference) == (20, 20)
        part = strip[:, index * 20 : (index + 1) * 20]
        np.testing.assert_array_equal(np.asarray(open_reference(tmp_path, reference)), part)


def test_the_hash_is_of_the_bytes_and_the_fragment(tmp_path):
    data = save(tmp_path / "a.png", picture(b"a", (100, 20))).read_bytes()
    assert content_sha256(tmp_path, "a.png") == hashlib.sha256(data).hexdigest()
    assert content_sha256(tmp_path, "a.png#view=1/5") == hashlib.sha256(data + b"#view=1/5").hexdigest()


def test_an_image_reference_has_no_mask_s_keys(tmp_path):
    save(tmp_path / "a.png", picture(b"a"))
    with pytest.raises(UserError, match="'over' is for masks"):
        open_reference(tmp_path, "a.png#over=half")


# Masks in files.


def _as_mode(mode):
    """The mask of BOX as Pillow image of a mode."""
    mask = mask_of(BOX)
    if mode in ("I;16", "I"):
        return Image.fromarray((mask // 255 * 3).astype(np.uint16 if mode == "I;16" else np.int32))
    if mode == "F":
        return Image.fromarray((mask / 255).astype(np.float32))
    if mode == "P":
        image = Image.frombytes("P", SIZE, (mask // 255 * 3).tobytes())
        image.putpalette([0, 0, 0] * 3 + [10, 20, 30] * 253)
        return image
    if mode == "transparent":
        # Coloured everywhere, opaque only where the defect is.
        return Image.fromarray(np.dstack([np.full_like(mask, 99)] * 3 + [mask]))
    return Image.fromarray(mask).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "I", "F", "CMYK", "transparent"])
def test_a_mask_may_have_any_mode(tmp_path, mode):
    path = tmp_path / ("m.tif" if mode in ("F", "I", "CMYK") else "m.png")
    _as_mode(mode).save(path)
    np.testing.assert_array_equal(open_mask(tmp_path, path.name, size=SIZE), mask_of(BOX) > 0)


def test_a_lossy_mask_is_cut_at_half(tmp_path):
    mask = mask_of(BOX)
    save(tmp_path / "m.jpg", mask)
    stored = np.asarray(Image.open(tmp_path / "m.jpg"))
    assert ((stored > 0) != (mask > 0)).any(), "the compression left no noise: the test would prove nothing"
    np.testing.assert_array_equal(open_mask(tmp_path, "m.jpg", size=SIZE), mask > 0)


def test_over_half_and_value_choose_among_numbers(tmp_path):
    other = (40, 30, 46, 36)
    save(tmp_path / "m.png", mask_of(BOX, other, value=[3, 200]))
    assert open_mask(tmp_path, "m.png", size=SIZE).sum() == 12 * 8 + 36
    np.testing.assert_array_equal(open_mask(tmp_path, "m.png#over=half", size=SIZE), mask_of(other) > 0)
    np.testing.assert_array_equal(open_mask(tmp_path, "m.png#value=3", size=SIZE), mask_of(BOX) > 0)
    np.testing.assert_array_equal(
        mask_values(tmp_path, "m.png", size=SIZE).values, mask_of(BOX, other, value=[3, 200])
    )
    for fragment in ("over=much", "value=-1", "value=x"):
        with pytest.raises(UserError, match="expected"):
            open_mask(tmp_path, f"m.png#{fragment}", size=SIZE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_mask_is_turned_like_its_image(tmp_path, orientation, suffix):
    """An export that turned image and mask alike keeps them together."""
    mask = mask_of(BOX, (40, 30, 60, 33))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(mask).save(tmp_path / f"m{suffix}", exif=exif)
    upright = np.asarray(open_reference(tmp_path, f"m{suffix}").convert("L")) > 0
    size = upright.shape[::-1]
    np.testing.assert_array_equal(open_mask(tmp_path, f"m{suffix}", size=size), upright)


def test_a_mask_of_another_size_is_refused(tmp_path):
    save(tmp_path / "m.png", mask_of(BOX))
    with pytest.raises(MaskSizeError, match=r"m.png: the mask has 64×48 pixels but its image 48×64"):
        open_mask(tmp_path, "m.png", size=(48, 64))


def test_a_folder_of_masks_is_their_union(tmp_path):
    other = (30, 15, 46, 36)
    save(tmp_path / "f/000.png", mask_of(BOX, value=7))
    save(tmp_path / "f/001.png", mask_of(other, value=9))
    (tmp_path / "f/readme.txt").write_text("x")
    union = np.maximum(mask_of(BOX, value=7), mask_of(other, value=9))
    np.testing.assert_array_equal(mask_values(tmp_path, "f#folder=1", size=SIZE).values, union)
    (tmp_path / "f/002.png").symlink_to(save(tmp_path / "elsewhere.png", mask_of(BOX)))
    with pytest.raises(UserError, match=r"002\.png: a link that leads out of its folder"):
        open_mask(tmp_path, "f#folder=1", size=SIZE)
    (tmp_path / "f/002.png").unlink()
    save(tmp_path / "f/002.png", mask_of(BOX, size=(80, 48)))
    with pytest.raises(UserError, match=r"002.png: 80×48 pixels, expected 64×48"):
        open_mask(tmp_path, "f#folder=1", size=SIZE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        open_mask(tmp_path, "empty#folder=1", size=SIZE)
    with pytest.raises(UserError, match="expected a folder of masks"):
        open_mask(tmp_path, "none#folder=1", size=SIZE)


def test_a_damaged_mask_is_one_line(tmp_path):
    path = save(tmp_path / "m.png", mask_of(BOX))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"m\.png: the mask is truncated or corrupt"):
        open_mask(tmp_path, "m.png", size=SIZE)


# Connected components.


MASKS = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


@settings(max_examples=300, deadline=None)
@given(values=MASKS, min_area=st.integers(1, 4))
def test_components_are_those_of_a_flood_fill(values, min_area):
    expected = [one for one in flood(values > 0) if one[1] >= min_area]
    found = mask_components(values > 0, min_area=min_area)
    assert [(one.box, one.area, one.value) for one in found] == [(box, area, None) for box, area, _ in expected]
    with_classes = mask_components(values, min_area=min_area)
    assert [(one.box, one.area) for one in with_classes] == [(one.box, one.area) for one in found]
    for one, (box, area, _) in zip(with_classes, expected, strict=True):
        fitting = [pixels for other, size, pixels in expected if (other, size) == (box, area)]
        most = {int(np.bincount([values[at] for at in pixels]).argmax()) for pixels in fitting}
        assert one.value in most


def test_corners_connect_and_gaps_do_not():
    mask = np.zeros((6, 8), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 4:7] = mask[2, 7] = True
    boxes = [one.box for one in mask_components(mask)]
    assert boxes == [(0, 0, 2, 2), (7, 2, 8, 3), (4, 4, 7, 5)]


# Arrays.


@pytest.fixture
def bolt(tmp_path):
    images = np.stack([picture(bytes([index])) for index in range(5)])
    with h5py.File(tmp_path / "bolt.h5", "w") as file:
        file["Images/Normal_0"] = images
        file["Images/Normal_1"] = images[0]
        file["Images/Grey_0"] = images[..., 0]
        file.create_dataset("Images/Packed_0", data=images, chunks=(2, *images.shape[1:]), compression="gzip")
        file["Masks/Anomaly_0"] = np.stack([mask_of(BOX, value=1)] * 5)
        file["Images/Float"] = images / 255
        file["Images/Text"] = "no picture"
        file["Images/Flat"] = images.reshape(-1)
        file["Images/Out"] = h5py.ExternalLink("other.h5", "secret")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = images
    return tmp_path, images


@pytest.mark.parametrize("name", ["Normal_0", "Packed_0", "Grey_0"])
def test_images_of_an_array(bolt, name):
    root, images = bolt
    for index in (0, 3, 4):
        reference = f"bolt.h5#h5=Images/{name}&index={index}"
        expected = np.repeat(images[index][..., :1], 3, 2) if name == "Grey_0" else images[index]
        np.testing.assert_array_equal(np.asarray(open_reference(root, reference)), expected)
        assert reference_size(root, reference) == SIZE
    np.testing.assert_array_equal(np.asarray(open_reference(root, "bolt.h5#h5=Images/Normal_1")), images[0])


def test_an_array_s_hash_is_its_pixels(bolt):
    root, _ = bolt
    first, packed, other = (
        content_sha256(root, f"bolt.h5#h5=Images/{name}")
        for name in ("Normal_0&index=0", "Packed_0&index=0", "Normal_1")
    )
    assert first == packed == other
    assert first != content_sha256(root, "bolt.h5#h5=Images/Normal_0&index=1")


def test_masks_of_an_array(bolt):
    root, _ = bolt
    mask = open_mask(root, "bolt.h5#h5=Masks/Anomaly_0&index=2", size=SIZE)
    np.testing.assert_array_equal(mask, mask_of(BOX) > 0)
    with pytest.raises(MaskSizeError):
        open_mask(root, "bolt.h5#h5=Masks/Anomaly_0&index=2", size=(48, 64))


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ("h5=Images/Normal_0&index=5", "holds 5 images, there is none of index 5"),
        ("h5=Images/Normal_0", "holds 5 images"),
        ("h5=Images/Normal_1&index=0", "holds a single image"),
        ("h5=Images/Normal_0&index=-1", "expected the image's number"),
        ("h5=Images/None_0&index=0", "has no array"),
        ("h5=Images&index=0", "is not an array"),
        ("h5=Images/Out&index=0", "has no array 'Images/Out' of its own"),
        ("h5=Images/Text", "is not an array"),
        ("h5=Images/Flat&index=0", "expected images as count"),
        ("h5=Images/Float&index=0", "is not an array of numbers|expected 8-bit images"),
    ],
)
def test_what_an_array_file_does_not_hold(bolt, fragment, message):
    with pytest.raises(UserError, match=message):
        open_reference(bolt[0], f"bolt.h5#{fragment}")


def test_a_file_that_is_no_array_file(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"nothing")
    for name in ("a.h5", "b.h5"):
        with pytest.raises(UserError, match=rf"{name}: (damaged or not an HDF5 file|no such file)"):
            open_reference(tmp_path, f"{name}#h5=x&index=0")


def test_public_names_are_there():
    assert all(hasattr(references, name) for name in references.__all__)
