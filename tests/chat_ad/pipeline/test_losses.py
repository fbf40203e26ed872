"""What a build loses is said first, and too much of it is an error: with the counts, the reasons, and what to type."""

import json
import shlex

import pytest

from adcopilot.chat_ad.pipeline.losses import dataset_losses, find_losses, said
from adcopilot.chat_ad.report.notes import make_notes
from adcopilot.chat_ad.report.report import survey
from adcopilot.cli import main
from adcopilot.prompts import INSPECT_QUESTION

from ..builds import records
from ..pictures import BOX, mask_of, picture, save

OWN = {"media_dir": None, "datasets.my_parts.filter": "{allow: [blurred]}"}


def parts(root, *, good=6, bad=3, masks=True, kind="scratch", dark=0):
    """A folder of one product."""
    for number in range(good):
        image = picture(f"good{number}".encode())
        save(root / "bracket/good" / f"{number:04d}.png", image // 8 if number < dark else image)
    for number in range(bad):
        save(root / f"bracket/{kind}/{number:04d}.png", picture(f"bad{number}".encode(), box=BOX))
        if masks:
            save(root / f"bracket/ground_truth/{kind}/{number:04d}_mask.png", mask_of(BOX))
    return root


@pytest.fixture
def build(tmp_path, project_root, capsys):
    """`build(root, *options, **settings)`: (exit status, lines printed, output folder), of `my_parts.yaml`."""
    output = tmp_path / "out"

    def run(root, *options, **settings):
        words = ["data", "build", str(project_root / "examples/data/my_parts.yaml"), "--output", str(output)]
        for key, value in {**OWN, "datasets.my_parts.root": root, **settings}.items():
            words += ["--set", f"{key}={'null' if value is None else value}"]
        status = main([*words, *options])
        printed = capsys.readouterr()
        lines = printed.out.splitlines() if printed.out else printed.err.splitlines()[-1:]
        return status, lines, output

    return run


def test_defective_images_without_masks_are_listed_and_said_first(build, tmp_path, capsys):
    root = parts(tmp_path / "raw", good=20, bad=5, masks=False)
    status, lines, output = build(root, **{"datasets.my_parts.options": "{masks: optional}"})
    assert status == 1
    assert lines[0].startswith("Caption_my_parts: 5 of 5 defective images gave no caption: they have no masks; ")
    assert lines[0].endswith("allow it with --max-left-out 1")
    listed = records(output / "Caption_my_parts.dropped.jsonl")
    assert [(one["image"], one["task"]) for one in listed] == [
        (f"bracket/scratch/{number:04d}.png", "caption") for number in range(5)
    ]
    assert {one["detail"] for one in listed} == {"it has no mask, and caption names where the defect is; draw one"}
    # They are in the other outputs, which says what they lack there.
    listed = records(output / "Chat_my_parts_RL.dropped.jsonl")
    assert {one["task"] for one in listed} == {"loc"}
    assert len(listed) == 5
    assert "Chat_my_parts_RL: 5 defective images can have no loc" in "\n".join(lines)
    found = survey(folder=output, media_dirs=None, samples=0, seed=0, budget=0)
    first = make_notes(found)[0]
    assert first.text.startswith("Caption_my_parts: 5 of 5 defective images gave no caption: they have no masks")
    assert not first.good
    assert main(["data", "report", str(output), "--output", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().out.startswith("Caption_my_parts: 5 of 5 defective images gave no caption")
    # What is printed is enough when it is typed.
    typed = shlex.split(lines[0].partition("allow it with ")[2])
    status, lines, _ = build(root, *typed, **{"datasets.my_parts.options": "{masks: optional}"})
    assert status == 0
    assert lines[0] == "Caption_my_parts: 5 of 5 defective images gave no caption: they have no masks"


def test_what_the_filter_takes_is_said_with_what_keeps_it(build, tmp_path):
    root = parts(tmp_path / "raw", good=6, bad=3, dark=4)
    status, lines, _ = build(root)
    assert status == 1
    assert lines[0] == (
        "my_parts: 4 of 6 good images lost: 4 dark; at most 0.2 of them may be: mend them, or allow it with "
        "--max-left-out 0.67; or keep them with --set 'datasets.my_parts.filter.allow=[blurred,dark]'"
    )
    _, setting = shlex.split(lines[0].partition("keep them with ")[2])
    status, lines, _ = build(root, "--set", setting)
    assert status == 0
    assert "lost" not in lines[0]
    assert build(root, max_left_out=0.67)[0] == 0


@pytest.mark.parametrize(
    ("folder", "options", "words"),
    [
        ({"good": 3, "bad": 2, "dark": 3}, [], ["all 3 good images of bracket are left out: 3 dark"]),
        ({"bad": 0}, [], ["all 6 images in", "are good"]),
        ({"masks": False}, ["--set", "datasets.my_parts.skip_problems=true"], ["(beside 3 that cannot be used)"]),
        *(({}, ["--max-left-out", share], ["--max-left-out"]) for share in ("2", "-0.1", "nan", "half")),
    ],
)
def test_what_cannot_be_built_is_said_for_what_it_is(build, tmp_path, folder, options, words):
    status, lines, _ = build(parts(tmp_path / "raw", **folder), *options)
    assert status == 2
    assert all(word in lines[0] for word in words)


def test_no_record_is_never_success(build, tmp_path):
    root = parts(tmp_path / "raw", good=4, bad=2, masks=False)
    status, lines, output = build(
        root,
        "--max-left-out",
        "1",
        outputs="{Loc: {datasets: my_parts, tasks: loc}}",
        **{"datasets.my_parts.options": "{masks: optional}"},
    )
    assert status == 1
    assert lines[0] == "Loc: 0 records: no pair of images can have loc"
    assert (output / "Loc.jsonl").read_text() == ""


def test_check_needs_no_output(project_root, capsys):
    assert main(["data", "build", str(project_root / "examples/data/my_parts.yaml"), "--check"]) == 0
    assert main(["data", "build", str(project_root / "examples/data/my_parts.yaml")]) == 2
    assert "--output is missing" in capsys.readouterr().err


def test_verdicts_ask_as_inspect_does_and_are_balanced(build, tmp_path):
    status, _, output = build(parts(tmp_path / "raw", good=3, bad=5))
    assert status == 0
    made = records(output / "Verdict_my_parts.jsonl")
    answers = {True: [], False: []}
    templates = {}
    for record in made:
        question, answer = (message["content"] for message in record["messages"])
        assert question == f"<image><image>{INSPECT_QUESTION}"
        assert answer == record["answer"]
        answers[record["anomalous"]].append(answer)
        templates.setdefault(record["images"][1].rpartition("/")[2][:8], set()).add(record["images"][0])
        if record["anomalous"]:
            boxes = json.loads(answer.removeprefix("Yes. "))
            assert [one["bbox_2d"] for one in boxes] == record["boxes"] != []
    assert set(answers[False]) == {"No."}
    # Each of three good parts beside the two others, and as many defective ones of the five beside three each.
    assert len(answers[True]) == len(answers[False]) == 6
    listed = records(output / "Verdict_my_parts.dropped.jsonl")
    assert len(listed) == 9
    assert {one["detail"] for one in listed} == {"one too many of its answer: as many are Yes as No"}


@pytest.mark.parametrize(("kind", "answer"), [("scratch", "Yes. A scratch."), ("bad", "Yes.")])
def test_a_verdict_without_boxes_names_the_kind_if_there_is_one(build, tmp_path, kind, answer):
    root = parts(tmp_path / "raw", masks=False, kind=kind)
    _, _, output = build(root, **{"datasets.my_parts.options": "{masks: optional}"})
    made = records(output / "Verdict_my_parts.jsonl")
    assert {record["answer"] for record in made if record["anomalous"]} == {answer}


@pytest.mark.parametrize("good", [4, 18])
def test_defective_images_lost_among_few_or_many_good_ones(build, tmp_path, good):
    root = parts(tmp_path / "raw", good=good, bad=4)
    for number in range(3):
        (root / f"bracket/ground_truth/scratch/{number:04d}_mask.png").unlink()
    status, lines, _ = build(root, **{"datasets.my_parts.skip_problems": "true"})
    assert status == 1
    assert lines[0].startswith("my_parts: 3 of 4 defective images lost: 3 without a mask; at most 0.2 of them may be")


def test_words():
    assert said(5, 5, "defective images", "gave no caption", {"have no masks": 5}) == (
        "5 of 5 defective images gave no caption: they have no masks"
    )
    assert said(3, 9, "good images", "gave no mc", {"a": 1, "b": 2}) == "3 of 9 good images gave no mc: 1 a, 2 b"
    dropped = [
        {"step": "index", "reason": "missing-mask"},
        {"step": "index", "reason": "unlabelled", "count": 7},
        {"step": "index", "reason": "unused-mask", "left_out": False},
        {"step": "filter", "reason": "leak"},
        {"step": "filter", "reason": "near_duplicate", "label": "anomalous"},
        {"step": "rebalance", "reason": "rebalanced"},
        {"step": "pair", "reason": "no_normal", "label": "normal"},
    ]
    found = dataset_losses({"normal": 20, "anomalous": 2}, dropped)
    # Eight images gave no row; a leak and a rebalanced one were asked to go.
    assert found["given"] == {"": 7, "normal": 20, "anomalous": 3}
    assert found["why"] == {
        "": {"unlabelled": 7},
        "anomalous": {"missing-mask": 1, "near_duplicate": 1},
        "normal": {"no_normal": 1},
    }
    assert found["judged"] == ["near_duplicate"]


def test_a_converter_that_wrote_nothing():
    manifest = {
        "recipes": {"r": {"max_left_out": 1.0, "values": {}, "skipped": []}},
        "outputs": {"MagicBrush": {"recipe": "r", "records": 0}},
    }
    assert [loss.line for loss in find_losses(manifest, "r") if loss.too_much] == ["MagicBrush: 0 records"]
