"""`adcopilot eval records`: one's own records, asked word for word and scored as their tasks say."""

import csv
import json

import pytest
from PIL import Image

from adcopilot.cli import main
from adcopilot.grpo.rewards import score
from adcopilot.tasks import TASKS, task_of

from ...backends.endpoint import Endpoint, completion, question

QUESTIONS = {
    "mc": "What is it?\nA. hole\nB. dent",
    "loc": "Where? Answer with boxes.",
    "count": "How many defects?",
    "verdict": "Is there a defect in the second image?",
}
RIGHT = {"mc": "B", "loc": '[{"bbox_2d": [20, 10, 60, 30], "label": "dent"}]', "count": "2", "verdict": "Yes."}


@pytest.fixture
def file(tmp_path):
    """Two records of each task, of two categories, beside their pictures."""
    for number in range(4):
        Image.new("RGB", (168, 112), (40 * number, 90, 120)).save(tmp_path / f"{number}.png")
    mask = Image.new("L", (168, 112))
    mask.paste(255, (20, 10, 60, 30))
    mask.save(tmp_path / "mask.png")
    records = []
    for number, (task, asked) in enumerate(2 * list(QUESTIONS.items())):
        messages = [
            {"role": "user", "content": f"<image><image>{asked}"},
            {"role": "assistant", "content": RIGHT[task]},
        ]
        records.append(
            {
                "messages": messages,
                "images": ["0.png", f"{1 + number // 4}.png"],
                "task": task,
                "answer": RIGHT[task],
                "boxes": [[20, 10, 60, 30]],
                "mask": "mask.png" if task == "loc" else "",
                "category": f"part {number // 4}",
                "key": f"k{number}",
            }
        )
    path = tmp_path / "parts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def right(body, number):
    """The truth; boxes in the notation of the family that is asked."""
    asked = question(body)
    task = next(name for name, text in QUESTIONS.items() if asked.startswith(text))
    return completion(RIGHT[task])


#: Of the family that answers in pixels of what it sees; here it sees the files as they are.
PIXELS = ("--family", "qwen2.5-vl", "--image-min-pixels", 3136)


def run(capsys, file, endpoint, *options, code=0):
    words = ["eval", "records", file, "--backend", "api", "--base-url", endpoint.url, "--model", "vlm", *options]
    assert main([*map(str, words), "--json"]) == code
    out, err = capsys.readouterr()
    return (json.loads(out) if out else None), err


def test_every_task_is_scored_by_its_own_file(file, tmp_path, capsys):
    with Endpoint(right) as endpoint:
        found, _ = run(capsys, file, endpoint, "--output", tmp_path / "run", *PIXELS)
        assert found["columns"] == dict.fromkeys(TASKS, 100.0)
        assert {row["questions"] for row in found["tasks"].values()} == {2}
        assert set(found["categories"]) == {"part 0", "part 1"}
        assert found["unread"] == {}
        assert {question(body).split("\n")[0] for body in endpoint.bodies} == {
            text.split("\n")[0] for text in QUESTIONS.values()
        }
        asked = len(endpoint.bodies)
        again, _ = run(capsys, file, endpoint, "--output", tmp_path / "run", *PIXELS)
        assert (again, len(endpoint.bodies)) == (found, asked)
    assert main(["eval", "records", "--score", str(tmp_path / "run"), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["tasks"] == found["tasks"]


def test_wrong_answers_are_what_the_reward_says(file, tmp_path, capsys):
    """The same number that GRPO would give, and what states nothing is counted apart."""
    wrong = {"mc": "A", "loc": '[{"bbox_2d": [20, 10, 40, 30]}]', "count": "3", "verdict": "I cannot tell."}
    records = {record["task"]: record for record in map(json.loads, file.read_text().splitlines())}

    def respond(body, number):
        return completion(wrong[next(name for name, text in QUESTIONS.items() if question(body).startswith(text))])

    with Endpoint(respond) as endpoint:
        options = ("--output", tmp_path / "run", *PIXELS, "--max-lost", 0.5)
        found, err = run(capsys, file, endpoint, *options)
    for name, text in wrong.items():
        reward = score(text, records[name], format_weight=0, media_dir=tmp_path)["answer"]
        assert found["columns"][name] == pytest.approx(100 * reward)
    assert found["columns"]["loc"] == pytest.approx(50)
    assert found["unread"] == {"state no answer of verdict": 2}
    assert "2 of 8 answers lost: 2 state no answer of verdict" in err


def test_one_task_and_what_cannot_be_asked(file, tmp_path, capsys):
    with Endpoint(right) as endpoint:
        found, _ = run(capsys, file, endpoint, "--output", tmp_path / "run", "--task", "count")
        assert found["columns"] == {"count": 100.0}
        assert len(endpoint.bodies) == 2
    broken = [json.loads(line) for line in file.read_text().splitlines()]
    broken[0]["answer"] = "neither"
    file.write_text("".join(json.dumps(record) + "\n" for record in broken))
    words = ["eval", "records", str(file), "--model", "m", "--output", str(tmp_path / "other")]
    assert main(words) == 2
    assert "'answer' is 'neither', expected the letter of an option" in capsys.readouterr().err
    words[2:3] = [str(file), "--data-root", str(tmp_path / "elsewhere")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "its first record has 0.png, which is not below" in err
    assert "say with --data-root which folder" in err
    assert main(["eval", "records", "--model", "m", "--output", str(tmp_path / "other")]) == 2
    assert "FILE is missing" in capsys.readouterr().err
    assert task_of(broken[1]).name == "loc"


def test_the_report_shows_them_by_the_protocol_alone(file, tmp_path, capsys):
    """A run that is right and one that is half so: the table, what is gained, and the cards."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    records[3] |= {"answer": "No.", "boxes": []}  # a normal part, so that there are verdicts of both kinds
    records[3]["messages"][-1]["content"] = "No."
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    seen = {"mc": "B", "loc": '[{"bbox_2d": [20, 10, 40, 30]}]', "count": "2", "verdict": "Yes."}

    def respond(truth):
        def says(body, number):
            asked = question(body)
            task = next(name for name, text in QUESTIONS.items() if asked.startswith(text))
            normal = task == "verdict" and pictures(body) == normal_pictures
            return completion("No." if truth and normal else (RIGHT if truth else seen)[task])

        return says

    def pictures(body):
        return [part["image_url"]["url"] for message in body["messages"] for part in message["content"]
                if isinstance(part, dict) and part["type"] == "image_url"]  # fmt: skip

    normal_pictures = None
    with Endpoint(lambda body, number: completion("No.")) as endpoint:
        run(capsys, file, endpoint, "--output", tmp_path / "probe", "--task", "verdict", "--limit", 1, *PIXELS)
        normal_pictures = pictures(endpoint.bodies[0])
    runs = []
    for name, truth in (("right", True), ("half", False)):
        with Endpoint(respond(truth)) as endpoint:
            run(capsys, file, endpoint, "--output", tmp_path / name, *PIXELS)
        runs.append(f"{name}={tmp_path / name}")
    words = ["eval", "report", *runs, "--output", str(tmp_path / "out"), "--samples", "40"]
    assert main(words) == 0
    with open(tmp_path / "out/records.csv", newline="") as handle:
        right, half = csv.DictReader(handle)
    assert [right[head] for head in ("Choice", "Boxes", "Count", "Verdict", "Balanced", "Average")] == ["100.0"] * 6
    assert [half[head] for head in ("Boxes", "Verdict", "Balanced", "Defective", "Normal")] == [
        "50.0", "50.0", "50.0", "100.0", "0.0"]  # fmt: skip
    with open(tmp_path / "out/pairs.csv", newline="") as handle:
        gains = {row["column"]: float(row["difference"]) for row in csv.DictReader(handle)}
    assert gains == {"mc": 0, "loc": -50, "count": 0, "verdict": -50, "defective": 0, "normal": -100,
                     "balanced": -50, "average": -25}  # fmt: skip
    text = (tmp_path / "out/report.html").read_text()
    assert text.count("<article") == 16
    cards = text.split("<article")[1:]
    assert sum('class="box c0 told"' in card and 'class="box c3"' in card for card in cards) == 4
    assert sum('class="chip wrong"' in card for card in cards) == 1  # boxes are right from an IoU of 0.5 on
    assert "part 0" in text.split('id="categories"')[1]


def test_the_tiny_model(file, tmp_path, adcopilot_dir, capsys):
    options = ["--model", adcopilot_dir, "--device", "cpu", "--dtype", "float32", "--max-new-tokens", 8]
    words = ["eval", "records", file, *options, "--output", tmp_path / "run", "--json", "--max-lost", 1]
    assert main([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["columns"]) == set(TASKS)
    assert 0 <= found["auroc"] <= 100 if found["auroc"] is not None else True


def test_boxes_outside_of_the_image_state_nothing(file, tmp_path, capsys):
    with Endpoint(lambda body, number: completion('[{"bbox_2d": [300, 300, 400, 400]}]')) as endpoint:
        found, err = run(capsys, file, endpoint, "--output", tmp_path / "run", *PIXELS, "--task", "loc", code=1)
    assert (found["columns"], found["unread"]) == ({"loc": 0.0}, {"state no answer of loc": 2})
    assert "2 of 2 answers have boxes that reach out of the image" in err


def test_categories_are_told_where_records_have_no_source(file, tmp_path, capsys):
    with Endpoint(right) as endpoint:
        _, err = run(capsys, file, endpoint, "--output", tmp_path / "run", "--category", "xyzzy", code=2)
    assert "there are: part 0, part 1" in err


def test_masks_that_are_perhaps_inverted(file, tmp_path, capsys):
    with Image.open(tmp_path / "mask.png") as mask:
        mask.point(lambda value: 255 - value).save(tmp_path / "mask.png")
    with Endpoint(right) as endpoint:
        found, _ = run(capsys, file, endpoint, "--output", tmp_path / "run", *PIXELS, "--task", "loc")
    assert found["masks_over_half"] == 2
    assert main(["eval", "records", "--score", str(tmp_path / "run")]) == 0
    assert "2 masks mark more than half of their image" in capsys.readouterr().out
