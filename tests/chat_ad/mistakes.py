"""Mistakes that real data has: `break_…` makes one in the tree `mvtec` and returns the kind of problem it is."""

import os

from .pictures import BOX, mask_of, picture, save

DEFECTIVE = "bottle/test/broken_large/000.png"


MASK = "bottle/ground_truth/broken_large/000_mask.png"


def break_missing_mask(root):
    (root / MASK).unlink()
    return "missing-mask"


def break_mask_size(root):
    save(root / MASK, mask_of(BOX, size=(80, 48)))
    return "mask-size"


def break_empty_mask(root):
    save(root / MASK, mask_of())
    return "empty-mask"


def break_damaged_mask(root):
    path = root / MASK
    path.write_bytes(path.read_bytes()[:60])
    return "unreadable-mask"


def break_damaged_image(root):
    (root / DEFECTIVE).write_bytes(b"not a picture")
    return "unreadable-image"


def break_empty_image(root):
    (root / DEFECTIVE).write_bytes(b"")
    return "unreadable-image"


def break_link_out(root):
    outside = root.parent / "outside.png"
    save(outside, picture(b"outside"))
    os.symlink(outside, root / "bottle/train/good/link.png")
    return "outside-root"


def break_dead_link(root):
    os.symlink("nowhere.png", root / "bottle/train/good/link.png")
    return "broken-link"


def break_mask_link_out(root):
    outside = root.parent / "outside_mask.png"
    save(outside, mask_of(BOX))
    (root / MASK).unlink()
    os.symlink(outside, root / MASK)
    return "outside-root"


def break_two_masks(root):
    save(root / "bottle/ground_truth/broken_large/000.png", mask_of(BOX))
    return "ambiguous-mask"


def break_not_utf8(root):
    source = os.fsencode(root / "bottle/train/good/000.png")
    os.link(source, os.fsencode(root / "bottle/train/good") + b"/caf\xe9.png")
    return "name"


def break_folder_among_images(root):
    save(root / "bottle/train/good/more/000.png", picture(b"more"))
    return "unexpected-folder"


def break_loose_images(root):
    save(root / "bottle/test/000.png", picture(b"loose"))
    return "unlabelled"


MISTAKES = {
    name.removeprefix("break_"): function for name, function in list(globals().items()) if name.startswith("break_")
}
