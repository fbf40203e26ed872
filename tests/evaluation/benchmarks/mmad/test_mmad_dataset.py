"""MMAD's files: what is read from them, and what is said about files that are not there or wrong."""

import json
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from adcopilot.answering.families import FAMILIES
from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.mmad import choosing, dataset, prompts
from adcopilot.evaluation.running import check_groups
from adcopilot.evaluation.selection import first, stratified

from .mini_mmad import KINDS, TYPES, build


@pytest.fixture
def copy(mini_mmad, tmp_path):
    """A copy to damage, and a function that rewrites one entry of its mmad.json."""
    root = tmp_path / "MMAD"
    shutil.copytree(mini_mmad, root)

    def change(edit, *, image="VisA/pcb1/test/bad/000.JPG"):
        data = json.loads((root / "mmad.json").read_text())
        data = edit(data, data[image]) or data
        (root / "mmad.json").write_text(json.dumps(data))

    return SimpleNamespace(root=root, change=change)


def test_all_of_it_is_read(mini_mmad):
    samples, digest = dataset.load(mini_mmad)
    assert len(digest) == 64
    assert Counter(sample.dataset for sample in samples) == dict.fromkeys(KINDS, 4)
    assert {question.type for sample in samples for question in sample.questions} == set(TYPES)
    bottle = next(sample for sample in samples if sample.image == "DS-MVTec/bottle/image/broken_large/000.png")
    assert (bottle.category, bottle.kind, bottle.normal) == ("bottle", "broken_large", False)
    assert bottle.templates["random"] == ("MVTec-AD/bottle/train/good/000.png", "MVTec-AD/bottle/train/good/001.png")
    assert bottle.templates["similar"] == bottle.templates["random"][::-1]
    assert bottle.questions[0].answer == "A"
    assert sum(sample.normal for sample in samples) == 8
    for sample in samples:
        there = [path for path in sample.masks(mini_mmad) if path.exists()]
        assert bool(there) == (not sample.normal), sample.image
        if there and sample.dataset == "MVTec-LOCO":
            assert there[0].is_dir()


def test_a_mask_path_that_repeats_a_folder(copy):
    """MMAD's own script joins three folders of the image's path; the mask is there then."""
    (copy.root / "VisA/pcb1/test/ground_truth/bad").mkdir(parents=True)
    shutil.move(
        copy.root / "VisA/pcb1/ground_truth/bad/000.png", copy.root / "VisA/pcb1/test/ground_truth/bad/000.png"
    )
    sample = next(one for one in dataset.load(copy.root)[0] if one.image == "VisA/pcb1/test/bad/000.JPG")
    there = [path for path in sample.masks(copy.root) if path.exists()]
    assert there == [copy.root / "VisA/pcb1/test/ground_truth/bad/000.png"]


def test_options_are_lettered_in_their_order(copy):
    copy.change(lambda data, entry: entry["conversation"].__setitem__(
        0, {"Question": "Which?", "Options": {"B": "b", "D": "d", "A": "a"}, "Answer": "A", "type": "Defect Analysis"}
    ))  # fmt: skip
    sample = next(one for one in dataset.load(copy.root)[0] if one.image == "VisA/pcb1/test/bad/000.JPG")
    assert sample.questions[0].options == {"A": "b", "B": "d", "C": "a"}
    assert sample.questions[0].answer == "C"


def test_a_conversation_under_another_name(copy):
    copy.change(lambda data, entry: entry.__setitem__("conversation_v2", entry.pop("conversation")))
    assert len(dataset.load(copy.root)[0]) == 16


def set_turn(**fields):
    return lambda data, entry: entry["conversation"][1].update(fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data, entry: [1], "expected a JSON object of images, got list"),
        (lambda data, entry: data.__setitem__("a.png", entry), "'a.png': expected a path such as"),
        (lambda data, entry: data.__setitem__("../x/a/b.png", entry), "expected a path such as"),
        (lambda data, entry: data.__setitem__("./VisA/a/b/c.png", entry), "expected a path such as"),
        (lambda data, entry: data.__setitem__("VisA//a/b/c.png", entry), "expected a path such as"),
        (lambda data, entry: data.__setitem__("VisA\\a\\b\\c.png", entry), "expected a path such as"),
        (lambda data, entry: data.__setitem__("x/y/z.png", 3), "expected an object with 'conversation', got int"),
        (lambda data, entry: entry.pop("conversation") and None, "has no 'conversation'"),
        (lambda data, entry: entry.update(random_templates="a"), "'random_templates' is 'a', expected a list"),
        (lambda data, entry: entry.update(similar_templates=["../a"]), "names a file outside"),
        (lambda data, entry: entry.update(mask_path=["a"]), "'mask_path' is"),
        (set_turn(Question=""), "question 1: 'Question' is ''"),
        (set_turn(type=None), "question 1: 'type' is 'None'"),
        (set_turn(Answer="E"), "question 1: the answer 'E' is none of the options A, B, C, D"),
        (set_turn(Options=["a", "b"]), "question 1: 'Options' is"),
        (set_turn(Options={"A": "only"}), "question 1: has 1 options, expected 2 to 5"),
        (set_turn(Options=dict.fromkeys("ABCDEF", "x")), "question 1: has 6 options"),
    ],
)
def test_entries_that_cannot_be_used(copy, edit, message):
    copy.change(edit)
    with pytest.raises(UserError) as error:
        dataset.load(copy.root)
    assert message in str(error.value)
    assert "mmad.json" in str(error.value)


def test_layouts_that_are_wrong(copy, tmp_path):
    def refused(root):
        with pytest.raises(UserError) as error:
            dataset.load(root)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no such folder" in refused(tmp_path / "gone")
    assert f"but {copy.root} has: give that as --data-root" in refused(tmp_path)
    assert f"but {copy.root} has: give that" in refused(copy.root / "VisA")
    (copy.root / "mmad.json").write_text("{")
    assert "mmad.json: not JSON" in refused(copy.root)
    (copy.root / "mmad.json").unlink()
    assert "has the folders DS-MVTec, MVTec-LOCO, VisA, GoodsAD, MVTec-AD but no mmad.json" in refused(copy.root)
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip/ALL_DATA.zip").touch()
    assert "holds ALL_DATA.zip, not unpacked" in refused(tmp_path / "zip")
    (tmp_path / "other/photos").mkdir(parents=True)
    assert "it holds photos); expected" in refused(tmp_path / "other")


def arguments(root, **changes):
    fields = {"data_root": root, "shots": 1, "template": "random", "category": [], "quick": None, "limit": None}
    return SimpleNamespace(**{**fields, "skip_missing": False, **changes})


def test_categories(mini_mmad):
    def chosen(*names):
        return choosing.choose(arguments(mini_mmad, category=names))[0]

    assert len(chosen()) == 16
    assert {one.category for one in chosen("bottle")} == {"bottle"}
    assert {one.dataset for one in chosen("visa", "GoodsAD/drink_can")} == {"VisA", "GoodsAD"}
    with pytest.raises(UserError, match=r"--category botle: no such category or dataset; did you mean bottle"):
        chosen("botle")
    with pytest.raises(UserError, match=r"--category xyzzy.*there are: DS-MVTec/bottle, GoodsAD/drink_can"):
        chosen("xyzzy")


def test_missing_images_are_listed_once(copy, capsys):
    gone = ["VisA/pcb1/test/bad/000.JPG", "VisA/pcb1/test/good/001.JPG", "MVTec-AD/bottle/train/good/000.png"]
    (copy.root / gone[0]).unlink()
    (copy.root / gone[1]).write_bytes(b"")
    (copy.root / gone[2]).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(UserError) as error:
        choosing.choose(arguments(copy.root))
    # 16 queries and 4 templates; a template that several need is named once.
    assert "3 of 20 images that mmad.json names are not there, empty, or Git LFS pointers (MVTec-AD 1, VisA 2)" in str(
        error.value
    )
    assert all(str(error.value).count(name) == 1 for name in gone)
    assert len(choosing.choose(arguments(copy.root, shots=0, category=["DS-MVTec"]))[0]) == 4
    left, _ = choosing.choose(arguments(copy.root, skip_missing=True))
    assert len(left) == 16 - 2 - 4  # bottle has no template any more
    assert "6 of 16 samples left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="no samples are left"):
        choosing.choose(arguments(copy.root, skip_missing=True, category=["bottle"]))


def test_too_few_templates(mini_mmad):
    with pytest.raises(UserError, match=r"has 2 random_templates, --shots 4 needs 4; ask with fewer"):
        choosing.choose(arguments(mini_mmad, shots=4))
    with pytest.raises(UserError, match="--shots is -1"):
        choosing.choose(arguments(mini_mmad, shots=-1))


def make(root, *, own=None, shots=1, **changes):
    samples, _ = dataset.load(root)
    words = prompts.own_words(own or prompts.read_prompts(None), shots=shots)
    return prompts.items(samples, root=root, **{"shots": shots, "kind": "random", "words": words, **changes})


@pytest.mark.parametrize("shots", [0, 1, 2, 4, 8])
def test_prompts_by_shots(tmp_path, shots):
    root = build(tmp_path, per_kind=1, templates=8)
    items = make(root, shots=shots, kind="similar")
    check_groups(items)
    assert len(items) == 4 * 9
    assert len({item.group for item in items}) == 8
    for item in items:
        assert len(item.images) == shots + 1
        assert all(path.is_file() for path in item.images)
        assert str(item.images[-1]).endswith(item.meta["image"])
        text = " ".join(part for part in item.prefix if isinstance(part, str))
        assert ("template" in text) == (shots > 0)
        assert (str(shots) in text) == (shots > 1)
        lines = item.question.strip().splitlines()
        assert lines[0] == f"Question: {item.meta['question']}"
        assert lines[1:] == [f"{letter}. {words}" for letter, words in item.options.items()]
    first_template = items[0].images[0].name
    assert (first_template == "007.png") == (shots > 0)  # similar ones are in the other order


def test_domain_knowledge(mini_mmad):
    knowledge = dataset.domain_knowledge(mini_mmad)
    assert knowledge["DS-MVTec", "bottle"] == "<bottle> clean\n<broken_large>"
    for item in make(mini_mmad, knowledge=knowledge):
        told = any("<bottle> clean\n<broken_large>" in part for part in item.prefix if isinstance(part, str))
        assert told == (item.meta["dataset"] == "DS-MVTec")


def test_the_published_domain_knowledge(mmad_root):
    knowledge = dataset.domain_knowledge(mmad_root)
    assert len(knowledge) == 38
    assert "Broken Teeth" in knowledge["DS-MVTec", "zipper"]


@pytest.mark.parametrize(("content", "message"), [("{", "not JSON"), ("[]", "expected"), ('{"a": 1}', "expect")])
def test_domain_knowledge_that_is_none(tmp_path, content, message):
    with pytest.raises(UserError, match="domain-knowledge needs"):
        dataset.domain_knowledge(tmp_path)
    (tmp_path / "domain_knowledge.json").write_text(content)
    with pytest.raises(UserError, match=message):
        dataset.domain_knowledge(tmp_path)


def test_prompts_of_ones_own(mini_mmad, tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"question": "Q {question} of {options}!", "role": "Look. "}))
    mine = make(mini_mmad, own=prompts.read_prompts(file))
    assert mine[0].question == "Q Is there any defect in the object? of A. Yes.\nB. No.!"
    assert mine[0].prefix[0].startswith("Look. Answer")
    assert {item.key for item in mine}.isdisjoint(item.key for item in make(mini_mmad))
    for content, message in [
        ("{", "not JSON"),
        ("[]", "expected a JSON object of texts"),
        ('{"rule": "x"}', "'rule' is none of role"),
        ('{"question": "{question}"}', r"expected \{options\} in it"),
    ]:
        file.write_text(content)
        with pytest.raises(UserError, match=message):
            prompts.read_prompts(file)


def test_a_question_may_hold_braces(copy):
    copy.change(set_turn(Question="What is {options} in {question}?"))
    item = next(item for item in make(copy.root) if "braces" in item.question or "{options}" in item.question)
    assert item.question.strip().splitlines()[0] == "Question: What is {options} in {question}?"


def test_keys_follow_the_content(mini_mmad, copy):
    keys = {item.key for item in make(mini_mmad)}
    assert len(keys) == 72
    other = {item.key for item in make(copy.root)}
    assert keys == other  # the folder's place is not part of it
    picture = copy.root / "VisA/pcb1/test/bad/000.JPG"
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert len(keys & {item.key for item in make(copy.root)}) == 72 - 5
    copy.change(set_turn(Answer="D"), image="GoodsAD/drink_can/test/good/003_000.jpg")
    assert len(keys & {item.key for item in make(copy.root)}) == 72 - 5 - 1
    thinking = make(mini_mmad, thinking=True, family=FAMILIES["adcopilot"])
    assert all("<think>" in item.question for item in thinking)
    assert keys.isdisjoint(item.key for item in thinking)


def entries(sizes):
    """(dataset, product, normal, name) like MMAD's images."""
    return [
        (name, f"p{number % 3}", number % 2 == 0, f"{name}/{number}") for name, size in sizes for number in range(size)
    ]


def take(some, count):
    return stratified(
        some, count, outer=lambda one: one[0], inner=lambda one: one[1:3], name=lambda one: one[3]
    )  # fmt: skip


def test_a_quick_subset_stands_for_all():
    some = entries([("a", 3000), ("b", 600), ("c", 60), ("d", 900)])
    quick = take(some, 400)
    counts = Counter(one[0] for one in quick)
    assert counts["c"] == 60  # it has no more
    assert all(abs(counts[name] - 340 / 3) < 4 for name in "abd")
    assert all(abs(number - 340 / 18) < 2 for number in Counter(one[:3] for one in quick if one[0] != "c").values())
    assert quick == [one for one in some if one in set(quick)]
    shuffled = [some[index] for index in np.random.default_rng(0).permutation(len(some))]
    assert set(take(shuffled, 400)) == set(quick)
    assert set(take(some, 200)) < set(quick) < set(take(some, 1000))
    assert len(take(some, 1)) == 24  # each product of each dataset, normal and not
    assert take(some, 100_000) == some
    with pytest.raises(UserError, match="--quick is 0"):
        take(some, 0)
    with pytest.raises(UserError, match="--limit is 0"):
        first(some, 0)
    assert first(some, 2) == some[:2]
