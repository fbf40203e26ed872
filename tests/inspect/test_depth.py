"""inspect on pictures of 16 bits a channel, of which the camera uses 12: one depth for templates and queries."""

import warnings

import numpy as np
from PIL import Image

from adcopilot import image_depth
from adcopilot.inspect.command import depth
from adcopilot.inspect.pairs import TemplatePool

from .conftest import part


def twelve_bits(folder, seed, *, dark=1, **options):
    """A picture in 12 of 16 bits, and in 8 bits what it has to look like; their paths."""
    grey = np.asarray(part(seed, **options).convert("L")).astype(np.uint32)
    values = (grey * 4095 // 255 // dark).astype(np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(folder / f"{seed}.png")
    plain = folder.parent / "plain" / f"{seed}.png"
    plain.parent.mkdir(exist_ok=True)
    Image.fromarray(((values.astype(np.uint32) * 255 + 2047) // 4095).astype(np.uint8)).save(plain)
    return folder / f"{seed}.png", plain


def test_a_pair_is_seen_as_its_8_bits(inspector, tmp_path, monkeypatch):
    """The query is so dark that alone it would be taken for 10 bits: by the template's depth it is what it is."""
    monkeypatch.setattr(image_depth, "_told", set())
    template, plain_template = twelve_bits(tmp_path / "deep", 1)
    query, plain_query = twelve_bits(tmp_path / "deep", 2, dark=5, defect=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [deep, plain] = inspector.inspect_many([(template, query), (plain_template, plain_query)])
    assert deep.error is None
    assert (deep.text, deep.score, deep.boxes) == (plain.text, plain.score, plain.boxes)


def test_a_folder_has_one_depth_which_is_said_once(tmp_path, capsys):
    template, _ = twelve_bits(tmp_path / "good", 1)
    twelve_bits(tmp_path / "test", 2, dark=20)
    query, _ = twelve_bits(tmp_path / "test", 3, dark=20)

    class Arguments:
        template, query, mvtec = None, None, None
        template_dir, query_dir = tmp_path / "good", tmp_path / "test"

    assert depth(Arguments) == 12
    said = capsys.readouterr().err
    assert said == "pictures of 16 bits a channel use 12 of them: all are scaled by 4095\n"
    pool = TemplatePool(folder=tmp_path / "good", by_name=False, bits=12)
    assert pool.choose(query, name="3.png") == [template]
    Arguments.template_dir = Arguments.query_dir = tmp_path / "plain"
    assert depth(Arguments) == 8
    assert capsys.readouterr().err == ""
