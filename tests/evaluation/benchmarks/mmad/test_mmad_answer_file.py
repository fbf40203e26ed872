"""Other people's answer files: names of images in any notation, unreadable and doubled answers, files with holes."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adcopilot import cli
from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.mmad import dataset
from adcopilot.evaluation.benchmarks.mmad.answer_file import mmad_name, read_answer_file
from adcopilot.evaluation.benchmarks.mmad.results import results_of_entries

FIELDS = ("image", "question", "question_type", "correct_answer", "gpt_answer")
NAMES = ("VisA/pcb1/test/bad/000.JPG", "DS-MVTec/bottle/image/good/000.png", "MVTec-LOCO/screw_bag/test/good/1.png",
         "GoodsAD/drink_can/test/straw_missing/003_000.jpg")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "other",
    [
        "{}",
        "/{}",
        "./{}",
        "/data/sets/MMAD/{}",
        "MMAD/{}",
        "../../MMAD/./{}",
        "a/../{}",
        "//server/share//{}",
        "C:\\sets\\MMAD\\{back}",
        "{back}",
        ".\\{back}",
        "file:///data/MMAD/{}",
        "file://{}",
        "https://example.org/MMAD/{}",
        "file:///data/My%20Sets/{escaped}",
        "  {}\n",
        "/data/VisA/copy/{}",  # a folder above is called like a dataset
        "/data/ds-mvtec/{}",
        "{lower}",
        "{upper}",
    ],
)
def test_names_of_images(name, other):
    folders, _, file = name.rpartition("/")
    text = other.format(
        name,
        back=name.replace("/", "\\"),
        escaped=name.replace("_", "%5F").replace("-", "%2D"),
        lower=f"{folders.lower()}/{file}",
        upper=f"{folders.upper()}/{file}",
    )
    if other.startswith("../.."):
        assert mmad_name(text) is None  # it leads out of itself
        assert mmad_name(text.removeprefix("../../")) == name
    else:
        assert mmad_name(text) == name


@pytest.mark.parametrize(
    "text",
    ["", "/", "x.png", "bottle/image/good/000.png", "MVTec-AD/bottle/test/good/000.png", "VisA/000.JPG",
     "VisA/../a/b/c", "VisA", "../VisA/pcb1/test/bad/000.JPG", "D:\\000.JPG", "MyParts/a/test/good/1.png"],
)  # fmt: skip
def test_names_that_are_none_of_mmads(text):
    assert mmad_name(text) is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
@example("VisA/" * 3000)
@example("%ff%00/VisA/a/b/%2e%2e/c.png")
def test_any_name(text):
    found = mmad_name(text)
    if found is not None:
        assert mmad_name(found) == found or "%" in found
        assert found.split("/")[0] in ("DS-MVTec", "MVTec-LOCO", "VisA", "GoodsAD")
        assert not {"", ".", ".."} & set(found.split("/"))


def entries_of(root, *, right=True):
    """A whole answer file, as a run writes it."""
    samples, _ = dataset.load(root)
    return [
        {
            "image": sample.image,
            "question": {"type": "text", "text": one.text, "options": dict(one.options)},
            "question_type": one.type,
            "correct_answer": one.answer,
            "gpt_answer": one.answer if right else "A",
        }
        for sample in samples
        for one in sample.questions
    ]


@pytest.fixture
def score(tmp_path, capsys):
    def run(entries, *options):
        file = tmp_path / "answers.json"
        file.write_text(entries if isinstance(entries, str) else json.dumps(entries))
        code = cli.main(["eval", "mmad", "--score", str(file), "--json", *map(str, options)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out) if out else None, err

    return run


def test_a_whole_file(mini_mmad, score):
    for options in ((), ("--data-root", mini_mmad)):
        code, found, err = score(entries_of(mini_mmad), *options)
        assert (code, err, found["questions"], found["unread"]) == (0, "", 72, {})
        assert found["average"]["average"] == 100


def test_the_same_scores_whatever_the_notation(mini_mmad, score):
    """A file in several notations."""
    entries = entries_of(mini_mmad, right=False)
    _, expected, _ = score(entries)
    named = (lambda name: name, lambda name: f"/abs/MMAD/{name}", lambda name: name.replace("/", "\\"),
             lambda name: f"file:///x/{name.replace('_', '%5F')}")  # fmt: skip
    other = [{**one, "image": named[place % 4](one["image"])} for place, one in enumerate(entries)]
    code, found, err = score(other)
    assert (code, found, err) == (0, expected, "")
    assert 0 < found["average"]["average"] < 100


def test_a_name_that_cannot_be_told_is_refused(mini_mmad, score):
    entries = entries_of(mini_mmad)
    entries[5]["image"] = entries[5]["image"].partition("/")[2]
    code, found, err = score(entries)
    assert (code, found) == (2, None)
    assert "answers.json: entry 5 has the image 'bottle/image/" in err
    assert "expected a path below one of DS-MVTec, MVTec-LOCO, VisA, GoodsAD" in err
    assert err.count("\n") == 1


def test_mmad_json_knows_other_datasets(tmp_path, score):
    """Somebody's own set in MMAD's form is scored where its mmad.json is at hand, and refused otherwise."""
    entry = {"conversation": [{"Question": "Is there any defect?", "Options": {"A": "Yes.", "B": "No."}, "Answer": "B",
                               "type": "Anomaly Detection"}]}  # fmt: skip
    (tmp_path / "mmad.json").write_text(json.dumps({"Parts/Bolt 50%/test/good/1.PNG": entry}))
    answer = {"image": "c:\\x\\parts\\bolt 50%\\TEST\\good\\1.png", "question_type": "Anomaly Detection",
              "correct_answer": "B", "gpt_answer": "B"}  # fmt: skip
    assert score([answer])[0] == 2
    code, found, _ = score([answer], "--data-root", tmp_path)
    assert (code, list(found["datasets"])) == (0, ["Parts"])


def test_unreadable_answers(mini_mmad, score):
    """They are counted first; above a tenth the command ends with 1. MMAD's number is the same either way."""
    entries = entries_of(mini_mmad)
    for place, bad in enumerate(["a", "A.", "(A)", " A", "", None, math.nan]):
        entries[9 * place]["gpt_answer"] = bad
    code, found, err = score(entries)
    assert (code, err) == (0, "7 of 72 answers lost: 7 are no letter from A to E\n")
    assert (found["invalid"], found["average"]["average"]) == (7, 100)
    assert found["unread_as_wrong"]["average"]["average"] < 100
    assert "strict" not in found
    entries[8]["gpt_answer"] = ["A"]
    code, again, err = score(entries)
    assert code == 1
    assert err == (
        "8 of 72 answers lost: 8 are no letter from A to E; at most 0.1 of them may be: mend them, or allow it with "
        "--max-lost 0.12\n"
    )
    assert score(entries, "--max-lost", "0.12") == (0, again, "8 of 72 answers lost: 8 are no letter from A to E\n")
    for one in entries:
        one["gpt_answer"] = "I cannot"
    code, found, err = score(entries)
    assert (code, found["unread"]) == (1, {"are no letter from A to E": 72})


def test_letters_that_are_no_option(mini_mmad, score):
    """Neither yes nor no is wrong by MMAD's rule, as its number has it, and counted apart."""
    entries = entries_of(mini_mmad)
    for one in entries:
        if one["question_type"] == "Anomaly Detection":
            one["gpt_answer"] = "E"
    code, found, _ = score(entries)
    assert (code, found["unread"], found["invalid"]) == (1, {"name a letter that is no option": 16}, 0)
    assert found["average"]["Anomaly Detection"] == 0


def test_doubled_answers(mini_mmad, score):
    entries = entries_of(mini_mmad, right=False)
    _, expected, _ = score(entries)
    code, found, err = score(entries * 2)
    assert code == 1
    assert err.startswith("72 of 144 answers lost: 72 stand there twice; at most 0.1 of them may be")
    assert found["unread"] == {"stand there twice": 72}
    assert {**found, "unread": {}} == expected
    # In other notations and with other answers too; the first counts.
    again = [{**one, "image": f"/x/{one['image']}", "gpt_answer": "B"} for one in entries[:5]]
    code, found, err = score([*entries, *again], "--max-lost", "0.2")
    assert (code, {**found, "unread": {}}) == (0, expected)
    assert found["unread"] == {"stand there again with another answer (the first counts)": 5}
    # Without words only discrimination can be told from the other questions about an image.
    bare = [{name: value for name, value in one.items() if name != "question"} for one in entries]
    code, found, _ = score(bare)
    assert (code, found["unread"], found["average"]) == (0, {}, expected["average"])
    code, found, _ = score(bare * 2)
    assert (code, found["unread"]) == (1, {"stand there twice": 16})


def test_a_part_is_called_one(mini_mmad, tmp_path, capsys):
    file = tmp_path / "answers_1_shot_other.json"
    file.write_text(json.dumps(entries_of(mini_mmad)[:60]))
    assert cli.main(["eval", "mmad", "--score", str(file)]) == 0
    assert capsys.readouterr().out.endswith("these are 60 of MMAD's 39,672 questions\n")


def test_held_against_mmad_json(mini_mmad, score):
    root = ("--data-root", mini_mmad)
    entries = entries_of(mini_mmad)
    code, found, err = score(entries[:-4], *root)
    assert (code, err) == (0, "4 of 72 answers lost: 4 have no entry\n")
    code, found, err = score(entries[:60], *root)
    assert (code, found["questions"]) == (1, 60)
    assert "12 of 72 answers lost: 12 have no entry; at most 0.1" in err
    entries[0]["correct_answer"] = "A" if entries[0]["correct_answer"] == "B" else "B"
    entries[1]["image"] = "VisA/pcb1/test/bad/999.JPG"
    entries[2]["question_type"] = "Small Talk"
    entries[3]["question"]["text"] = f"Question: {entries[3]['question']['text']}\nA. …"  # the whole prompt
    code, found, err = score(entries, *root)
    assert found["questions"] == 69
    assert found["unread"] == {
        "have another right answer than mmad.json": 1,
        "are no question of mmad.json": 2,
        "have no entry": 2,
    }
    assert err.startswith("5 of 74 answers lost: ")
    assert code == 0


@pytest.mark.parametrize("share", ["-1", "2", "nan", "x", ""])
def test_shares_that_are_none(mini_mmad, score, share):
    code, _, err = score(entries_of(mini_mmad), f"--max-lost={share}")
    assert (code, err.count("\n")) == (2, 1)
    assert "--max-lost is" in err


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
fields = dict.fromkeys(FIELDS, values | st.sampled_from([*NAMES, "A", "B", "\ud800"]))
entry = st.fixed_dictionaries({}, optional=fields)


@settings(max_examples=150, deadline=None)
@given(st.lists(entry, min_size=1, max_size=4) | values)
def test_any_file(tmp_path_factory, entries):
    file = tmp_path_factory.mktemp("any") / "answers.json"
    file.write_text(json.dumps(entries))
    try:
        results_of_entries(read_answer_file(file), samples=5)
    except UserError as error:
        message = str(error)
    else:
        return
    assert str(file) in message
    assert "\n" not in message


@pytest.mark.parametrize("spelt", [str.lower, lambda text: text.replace(" ", "_"), lambda text: f" {text.upper()} "])
def test_types_in_another_spelling_are_mmads(mini_mmad, score, spelt):
    """A type of its own is a column of its own, and discrimination is then no mean of normal and anomalous images."""
    entries = entries_of(mini_mmad)
    _, expected, _ = score(entries)
    others = [{**one, "question_type": spelt(one["question_type"])} if n % 2 else one for n, one in enumerate(entries)]
    assert score(others)[1] == expected
    assert score(others, "--data-root", mini_mmad)[1]["average"] == expected["average"]
    entries[3]["question_type"] = "Defect Clasification"
    code, _, err = score(entries)
    assert code == 2
    assert "entry 3 has the question_type 'Defect Clasification', expected one of Anomaly Detection, " in err
