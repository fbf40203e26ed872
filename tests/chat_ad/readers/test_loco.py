"""MVTec LOCO."""

from ..pictures import BOX
from ..trees import build
from .reading import one, read


def test_loco_s_masks_are_folders_whose_values_are_named(tmp_path):
    root = build("loco", tmp_path)
    found = read("loco", root)
    entry = one(found.entries, "logical_anomalies/000.png")
    assert entry.mask == "screw_bag/ground_truth/logical_anomalies/000#folder=1"
    assert (entry.boxes, entry.box_labels) == ((BOX, (40, 30, 50, 40)), ("missing_screw", "extra_nut"))
    assert (entry.defect, entry.notes) == ("extra_nut, missing_screw", "logical_anomalies")
    assert one(found.entries, "structural_anomalies/000.png").defect == "bag_broken"
    assert found.counts["val", "normal"] == 2

    (root / "screw_bag/defects_config.json").unlink()
    entry = one(read("loco", root).entries, "logical_anomalies/000.png")
    assert (entry.defect, entry.box_labels) == ("logical_anomalies", ("logical_anomalies",) * 2)

    (root / "screw_bag/defects_config.json").write_text('{"defect_name": 3')
    assert [problem.kind for problem in read("loco", root).blocking] == ["broken-json"]
