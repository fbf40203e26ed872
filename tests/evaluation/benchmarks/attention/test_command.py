"""`adcopilot eval attention` from the command line: tables, plots, resuming, scoring again, mistakes."""

import csv
import io
import json
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from adcopilot import cli
from adcopilot.evaluation.benchmarks.attention.results import attention_csv, results_of_records
from adcopilot.evaluation.run_folder import read_records

from ...commands import refused

pytestmark = pytest.mark.forward


def words(root, model, run, *options):
    fixed = ("--data-root", root, "--model", model, "--output", run, "--max-new-tokens", 3)
    return ["eval", "attention", *map(str, (*fixed, *options))]


@pytest.fixture(scope="module")
def run(mini_mmad, adcopilot_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention") / "run"
    assert cli.main(words(mini_mmad, adcopilot_dir, folder)) == 0
    return folder


def test_from_images_to_the_figure(run, capsys):
    records = list(read_records(run))
    found = json.loads((run / "results.json").read_text())
    assert (found["benchmark"], found["complete"], found["asked"], len(records)) == ("attention", True, 72, 72)
    assert list(found["tasks"]) == ["All questions", "Anomaly Detection", "Defect Classification",
                                    "Defect Localization", "Defect Description", "Defect Analysis",
                                    "Object Classification", "Object Analysis"]  # fmt: skip
    assert found["tasks"]["Anomaly Detection"]["questions"] == 16
    assert found["tasks"]["Object Analysis"]["questions"] == 16
    # The share of one task once more, from the lines alone.
    shares = []
    for record in (one for one in records if one["meta"]["type"] == "Defect Analysis"):
        base, comparison = (np.sum(record["attention"]["answer"][name]) for name in ("base", "comparison"))
        shares.append(comparison / (base + comparison))
    row = found["tasks"]["Defect Analysis"]["answer"]
    assert row["share"] == pytest.approx(100 * np.mean(shares), abs=1e-6)
    low, high = row["interval"]
    assert low < row["share"] < high
    assert 0 < row["base"] + row["comparison"] < 100
    rows = list(csv.DictReader(io.StringIO((run / "attention.csv").read_text())))
    assert len(rows) == 16
    assert float(rows[10]["share"]) == pytest.approx(row["share"])
    assert rows[10]["task"] == "Defect Analysis"
    assert float(rows[10]["share layer 3"]) == pytest.approx(row["layers"][2])
    bars, lines = (
        [title.text for title in ET.parse(run / name).getroot().iter("{http://www.w3.org/2000/svg}title")]
        for name in ("attention-tasks.svg", "attention-layers.svg")
    )
    assert f"from the answer, Defect Analysis: {row['share']:.2f}" in bars
    assert (len(bars), len(lines)) == (1 + 16, 1 + 8)


def test_numbers_of_a_made_up_run():
    def record(image, kind, base, comparison):
        measured = {"base": base, "comparison": comparison}
        return {
            "meta": {"image": image, "type": kind},
            "reply": {"text": "A", "truncated": True},
            "attention": {"tokens": {"base": [4, 6], "comparison": [2, 3]}, "answer": measured, "question": measured},
        }

    records = [
        record("a", "Anomaly Detection", [[0.1, 0.2], [0.1, 0.4]], [[0.05, 0.05], [0.0, 0.1]]),
        record("b", "Object Details", [[0.2, 0.2], [0.2, 0.2]], [[0.0, 0.4], [0.1, 0.3]]),
    ]
    found = results_of_records(records)
    first, second = (found["tasks"][name]["answer"] for name in ("Anomaly Detection", "Object Analysis"))
    # Layers: base 0.3 and 0.5, comparison 0.1 and 0.1.
    assert (first["base"], first["comparison"]) == pytest.approx((40, 10))
    assert first["share"] == pytest.approx(20)
    assert first["layers"] == pytest.approx([25, 100 / 6])
    assert first["density"] == pytest.approx((0.1 / 5) / (0.4 / 10))
    assert first["query_image"] == pytest.approx(75)
    assert second["share"] == pytest.approx(50)
    every = found["tasks"]["All questions"]
    assert (every["questions"], every["images"]) == (2, 2)
    assert every["answer"]["share"] == pytest.approx(35)
    assert every["answer"]["interval"] == pytest.approx([20, 50])
    assert found["truncated"] == 2
    assert len(attention_csv(found).splitlines()) == 7


def test_a_run_goes_on_where_it_stopped(run, mini_mmad, adcopilot_dir, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    lines = (run / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "answers.jsonl").write_bytes(b"".join(lines[:40]) + lines[40][:100])  # as a kill leaves it
    assert cli.main(words(mini_mmad, adcopilot_dir, copy)) == 0
    assert "72/72" in capsys.readouterr().err
    attention = [{one["item"]: one["attention"] for one in read_records(folder)} for folder in (run, copy)]
    assert attention[0] == attention[1]
    assert (copy / "attention.csv").read_text() == (run / "attention.csv").read_text()


def test_shards_and_one_image_alone(run, mini_mmad, adcopilot_dir, tmp_path, capsys):
    for part in ("1/2", "2/2"):
        assert cli.main(words(mini_mmad, adcopilot_dir, tmp_path / "parts", "--shard", part)) == 0
    ours, theirs = (json.loads((folder / "results.json").read_text())["tasks"] for folder in (tmp_path / "parts", run))
    assert ours == theirs
    assert cli.main(words(mini_mmad, adcopilot_dir, tmp_path / "alone", "--shots", 0, "--limit", 2, "--json")) == 0
    capsys.readouterr()
    [record, *_] = read_records(tmp_path / "alone")
    assert len(record["attention"]["tokens"]["base"]) == 1


def test_scoring_again_needs_no_model(run, tmp_path, capsys):
    assert cli.main(["eval", "attention", "--score", str(run), "--output", str(tmp_path / "again"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["tasks"] == json.loads((run / "results.json").read_text())["tasks"]
    assert (tmp_path / "again/attention-tasks.svg").read_text() == (run / "attention-tasks.svg").read_text()


def test_mistakes(mini_mmad, qwen_base_dir, adcopilot_dir, tmp_path, capsys):
    place = ("--data-root", mini_mmad, "--output", tmp_path / "run")
    assert "is no AD-Copilot model" in refused(capsys, "attention", *place, "--model", qwen_base_dir)
    assert "is not MMAD's folder" in refused(
        capsys, "attention", "--data-root", tmp_path, "--output", tmp_path / "r", "--model", "m"
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit) as error:  # endpoints give no attention
        cli.main(["eval", "attention", "--backend", "api"])
    assert error.value.code == 2
