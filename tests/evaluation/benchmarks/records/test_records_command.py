"""`adcopilot eval records`: one's own records, asked word for word and scored as their tasks say."""

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


def test_the_tiny_model(file, tmp_path, adcopilot_dir, capsys):
    options = ["--model", adcopilot_dir, "--device", "cpu", "--dtype", "float32", "--max-new-tokens", 8]
    words = ["eval", "records", file, *options, "--output", tmp_path / "run", "--json", "--max-lost", 1]
    assert main([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["columns"]) == set(TASKS)
    assert 0 <= found["auroc"] <= 100 if found["auroc"] is not None else True
