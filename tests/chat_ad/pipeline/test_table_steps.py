"""From each dataset's own layout through index, filter and pairing to cut pairs, by the commands alone."""

import pytest

from adcopilot import cli
from adcopilot.chat_ad.crops import cut_boxes, cut_pair
from adcopilot.chat_ad.sources.references import mask_components
from adcopilot.chat_ad.table import read_batches, read_entries

from .. import trees

#: Layout → images that cannot have a template: VISION has no normal images, the COCO tree a single one.
UNPAIRED = {"vision": 4, "coco": 1}


@pytest.mark.parametrize("layout", trees.LAYOUTS)
def test_every_layout_goes_through(layout, tmp_path, capsys):
    root = trees.build(layout, tmp_path / "source")
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    table, fit, output = (str(tmp_path / f"{name}.parquet") for name in ("table", "fit", "pairs"))
    assert cli.main(["data", "index", trees.DATASETS[layout], "--root", str(root), "--output", table]) == 0
    assert cli.main(["data", "filter", table, "--output", fit]) == 0
    words = ["--crop", "0.5:0.9", "--skip-unpaired", "--seed", "3"]
    assert cli.main(["data", "pair", fit, "--output", output, *words]) == 0
    capsys.readouterr()
    entries = {one.image: one for one in read_entries(table)}
    assert {one.image for one in read_entries(fit)} == set(entries)
    rows = [row for batch in read_batches(output) for row in batch.to_pylist()]
    assert len(rows) == len(entries) - UNPAIRED.get(layout, 0)
    for row in rows:
        query, template = entries[row["image"]], entries[row["template"]]
        assert (query.category, query.view, template.label) == (template.category, template.view, "normal")
        others = [
            one
            for one in entries.values()
            if (one.category, one.view, one.label) == (query.category, query.view, "normal")
            and one.group != query.group
        ]
        if query.group and others:
            assert template.group != query.group
        cut = cut_pair(root, row)
        assert cut.query.size == cut.template.size
        assert bool(cut.boxes) == (query.label == "anomalous")
        if cut.mask is not None:
            assert sorted(cut.boxes) == sorted(component.box for component in mask_components(cut.mask))
        assert [tuple(box) for box in cut_boxes(row)[0]] == list(cut.boxes)
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
