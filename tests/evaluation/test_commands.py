"""What every benchmark's command says and does alike: what is missing, what is no run of it, what dies half-way."""

import json
from dataclasses import replace

import pytest

from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks import NAMES

from .commands import refused
from .seeing import MODULES, Seeing

#: Benchmark → a category that is nearly one of its, and what is proposed.
NEARLY = {"mmad": ("bottel", "bottle"), "mmad-bbox": ("bottel", "bottle"), "unipcb": ("DeepPBC", "DeepPCB"),
          "caption": ("kitchn", "kitchen")}  # fmt: skip


@pytest.mark.parametrize("benchmark", [name for name in NAMES if name != "records"])  # which is given files
def test_what_is_missing_is_named(benchmark, capsys):
    given = ["--data-root", "d", "--model", "m", "--output", "o"]
    for place in range(0, 6, 2):
        assert f"{given[place]} is missing" in refused(capsys, benchmark, *given[:place], *given[place + 2 :])


@pytest.mark.parametrize("benchmark", NAMES)
def test_what_is_no_run_of_it_is_not_scored(benchmark, capsys, tmp_path):
    assert "expected the folder of a run" in refused(capsys, benchmark, "--score", tmp_path)
    for name, said in (("chess", f"is a run of 'chess', expected one of {benchmark}"), (benchmark, "no answers yet")):
        (tmp_path / "manifest.json").write_text(json.dumps({"identity": {"benchmark": name}}))
        assert said in refused(capsys, benchmark, "--score", tmp_path)


@pytest.mark.parametrize("benchmark", MODULES)
def test_categories_and_missing_images_are_told_before_the_model_loads(bench, benchmark, capsys, monkeypatch):
    one = bench(benchmark)
    wrong, right = NEARLY[benchmark]
    words = [benchmark, "--data-root", one.root, "--model", "nobody", "--output", one.folder, *one.scoring]
    assert f"did you mean {right}" in refused(capsys, *words, "--category", wrong)
    assert "there are: " in refused(capsys, *words, "--category", "xyzzy")
    one.image.unlink()
    err = refused(capsys, *words)
    assert f"{one.image.relative_to(one.root)}" in err
    assert "download them, or leave their" in err
    assert one.backend.asked == []
    assert one.run("--skip-missing")["complete"]
    assert "left out" in one.err


@pytest.mark.parametrize("benchmark", MODULES)
def test_an_endpoint_that_dies_half_way_keeps_its_answers(bench, benchmark, monkeypatch):
    one, answer = bench(benchmark), Seeing.answer

    def dies(self, items, *, max_new_tokens):
        yield from list(answer(self, items[:2], max_new_tokens=max_new_tokens))
        raise UserError("the endpoint is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Seeing, "answer", dies)
        assert one.run(code=2)["complete"] is False
        assert "the endpoint is gone; 2 of " in one.err
        assert "answers are kept, start again to go on" in one.err
    found = one.run()
    assert (len(one.backend.asked), found["complete"]) == (found["asked"] - 2, True)


@pytest.mark.parametrize("benchmark", MODULES)
def test_a_part_is_not_scored_as_if_it_were_one(bench, benchmark, capsys):
    """All of a run would be shown as the scores of a category."""
    one = bench(benchmark)
    one.run()
    for part in (("--category", "bottle"), ("--limit", "1"), ("--quick", "2")):
        assert f"and {part[0]} would choose a part" in refused(capsys, benchmark, "--score", one.folder, *part)


@pytest.mark.parametrize("benchmark", MODULES)
def test_answers_that_were_cut_off_are_said(bench, benchmark, monkeypatch):
    answer = Seeing.answer

    def cut(self, items, *, max_new_tokens):
        for item, reply in answer(self, items, max_new_tokens=max_new_tokens):
            yield item, replace(reply, truncated=True)

    monkeypatch.setattr(Seeing, "answer", cut)
    one = bench(benchmark)
    asked = one.run("--max-new-tokens", "33")["asked"]
    assert f"{asked} of {asked} answers were cut off at 33 tokens" in one.err
    one.score()
    assert f"{asked} of {asked} answers were cut off at 33 tokens" in one.err


def test_boxes_in_another_space_are_said(bench, monkeypatch):
    """A model that counts in thousandths, or in pixels of another size, gets numbers like any other's."""
    one = bench("mmad-bbox")
    one.run()
    assert "reach out of the image" not in one.err
    monkeypatch.setattr(Seeing, "says", lambda self, item: '[{"bbox_2d": [9, 9, 900, 40]}]')
    one.folder = one.folder.parent / "other"
    one.run()
    assert "8 of 8 answers have boxes that reach out of the image; they were read as pixels of what the" in one.err
    one.score()
    assert "8 of 8 answers have boxes" in one.err


@pytest.mark.parametrize("fields", ['{"messages": []}', '{"stream": true, "seed": 1}', '{"model": "another"}'])
def test_a_request_is_about_the_question(mini_mmad, tmp_path, fields, capsys):
    words = ["--backend", "api", "--base-url", "http://127.0.0.1:1/v1", "--model", "m", "--output", tmp_path / "run"]
    err = refused(capsys, "mmad", "--data-root", mini_mmad, *words, "--request", fields)
    assert "which this command writes itself" in err
