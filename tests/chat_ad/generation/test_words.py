"""How labels and products are said."""

import pytest


@pytest.mark.parametrize(
    ("label", "one", "three"),
    [
        ("scratch", "a scratch", "three scratches"),
        ("broken_large", "a large breakage", "three large breakages"),
        ("missing_parts", "missing parts", "missing parts in three places"),
        ("MissingWire", "a missing wire", "three missing wires"),
        ("contamination", "contamination", "three areas of contamination"),
        ("total_rust", "rust all over", "three areas with rust all over"),
        ("impurity", "an impurity", "three impurities"),
        ("aotu", "a defect of the type “aotu”", "three defects of the type “aotu”"),
        ("bend_and_parts_mismatch", "a defect of the type “bend and parts mismatch”", None),
        ("mousebite", "a mouse bite", "three mouse bites"),
        ("open circuit", "an open circuit", "three open circuits"),
        ("straw_missing", "a missing straw", "a missing straw in three places"),
        ("chunk of wax missing", "a missing chunk of wax", "a missing chunk of wax in three places"),
        ("foreign_particle_on_candle", "a foreign particle on candle", "three foreign particles on candle"),
        ("scratches on the side", "scratches on the side", "scratches on the side in three places"),
        ("surface_damage", "surface damage", "three areas of surface damage"),
        ("s_scratch", "an s scratch", "three s scratches"),
        ("bad", "a defect", "three defects"),
        ("", "a defect", "three defects"),
    ],
)
def test_how_labels_are_said(words, label, one, three):
    assert words.one(label) == one
    if three:
        assert words.many(label, 3) == three


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metal_nut", "a metal nut"),
        ("pcb4", "a PCB"),
        ("05_cable_end_sleeve", "a cable end sleeve"),
        ("goji_berries", "goji berries"),
        ("Lens", "a lens"),
        ("wood", "wood"),
        ("led_pad", "an LED pad"),
        ("u_block", "a u block"),
        ("usb_adaptor", "a USB adaptor"),
        ("12", "a part"),
    ],
)
def test_how_products_are_said(words, name, said):
    assert words.a_category(name) == said
