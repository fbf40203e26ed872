"""What every benchmark's command says and does alike: what is missing, what is no run of it, what dies half-way."""

import json

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
