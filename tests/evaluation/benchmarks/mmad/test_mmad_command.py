"""`adcopilot eval mmad` from the command line to the table, with the tiny model and through an endpoint."""

import contextlib
import hashlib
import io
import json
import time
from functools import partial
from types import SimpleNamespace

import pytest

from adcopilot import cli
from adcopilot.evaluation import options as shared
from adcopilot.evaluation.benchmarks.mmad import command
from adcopilot.evaluation.benchmarks.mmad.answer_file import read_answer_file
from adcopilot.evaluation.run_folder import read_records

from ...backends.endpoint import Endpoint, completion
from ...backends.test_same_answers import serve
from ...killing import kill_again_and_again
from .test_mmad_scoring import reference


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The embedded tiny model. It knows no option letters; what it says differs from image to image."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    assert cli.main(["init", "--preset", "tiny", "--output", str(folder)]) == 0
    return folder


def words(root, model, run, *options):
    fixed = ("--data-root", root, "--model", model, "--output", run, "--max-new-tokens", 6, "--max-lost", 1)
    return ["eval", "mmad", *map(str, (*fixed, *options))]


def evaluate(root, model, run, *options):
    return cli.main(words(root, model, run, *options))


def texts(run):
    return {record["item"]: record["reply"]["text"] for record in read_records(run)}


@pytest.fixture(scope="module")
def whole(mini_mmad, model, tmp_path_factory):
    """All 72 questions asked once: the run's `folder`, not to be written to, and what its command said."""
    folder, out, err = tmp_path_factory.mktemp("runs") / "whole", io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert evaluate(mini_mmad, model, folder, "--json") == 0
    return SimpleNamespace(folder=folder, out=out.getvalue(), err=err.getvalue())


def test_from_images_to_the_table(whole, model, capsys):
    found = json.loads(whole.out)
    assert "72/72" in whole.err  # the progress, with time left
    assert found == json.loads((whole.folder / "results.json").read_text())
    assert (found["complete"], found["asked"], found["answered"], found["questions"]) == (True, 72, 72, 72)
    assert list(found["datasets"]) == ["DS-MVTec", "MVTec-LOCO", "VisA", "GoodsAD"]
    assert len(set(texts(whole.folder).values())) > 10
    # MMAD's own file, scored by the rule written down once more, gives the same table.
    file = whole.folder / f"answers_1_shot_{model.name}.json"
    entries = read_answer_file(file)
    assert set(entries[0]) == {"image", "question", "question_type", "correct_answer", "gpt_answer"}
    expected = reference(entries)
    for dataset, row in {**found["datasets"], "average": found["average"]}.items():
        for column, value in row.items():
            assert value == pytest.approx(expected.loc[dataset, column], abs=1e-9)
    # Scoring again needs no model, from the run or from MMAD's file.
    assert cli.main(["eval", "mmad", "--score", str(whole.folder), "--json", "--max-lost", "1"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.items() <= found.items()
    assert again["logprobs"]["questions"] == 72
    assert set(again["discrimination"]["average"]) == {"auroc", "average_precision"}
    assert sum(again["parsing"]["official"].values()) == sum(again["parsing"]["strict"].values()) == 72
    assert cli.main(["eval", "mmad", "--score", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["average"] == found["average"]


@pytest.mark.parametrize(
    "options",
    [["--batch-size", 1], ["--batch-size", 4], ["--batch-size", 1, "--no-reuse"], ["--batch-size", 16, "--no-reuse"]],
)
def test_the_same_answers_at_any_batch_size_and_without_reuse(mini_mmad, model, whole, tmp_path, options):
    assert evaluate(mini_mmad, model, tmp_path / "run", *options) == 0
    assert texts(tmp_path / "run") == texts(whole.folder)
    assert len(texts(whole.folder)) == 72
    probabilities = [
        {record["item"]: record["reply"]["option_logprobs"] for record in read_records(folder)}
        for folder in (tmp_path / "run", whole.folder)
    ]
    for item, letters in probabilities[0].items():
        assert letters == pytest.approx(probabilities[1][item], abs=1e-3)


def test_the_same_answers_from_an_endpoint(mini_mmad, model, whole, tmp_path):
    from adcopilot.evaluation.backends.transformers_backend import TransformersBackend

    (tmp_path / "images").mkdir()
    with Endpoint(serve(TransformersBackend(model=str(model)), tmp_path / "images")) as endpoint:
        for backend in ("vllm", "api"):
            assert evaluate(
                mini_mmad, model.name, tmp_path / backend, "--backend", backend, "--base-url", endpoint.url,
                "--family", "adcopilot",
            ) == 0  # fmt: skip
    assert texts(tmp_path / "vllm") == texts(tmp_path / "api") == texts(whole.folder)


def test_an_endpoint_that_declines_some_questions(mini_mmad, tmp_path, capsys):
    """What is declined is recorded and not asked again, except on request; it is scored as no answer."""
    declining = True

    def respond(body, number):
        if declining and "Defect Analysis one" in body["messages"][0]["content"][-1]["text"]:
            return 400, {}, {"error": {"message": "content filter"}}
        return completion("A")

    with Endpoint(respond) as endpoint:
        options = ["--backend", "api", "--base-url", endpoint.url, "--limit", 4, "--max-lost", "0.1"]
        assert evaluate(mini_mmad, "gpt-x", tmp_path / "run", *options) == 1
        out, err = capsys.readouterr()
        lost = "2 of 18 answers lost: 2 were refused by the endpoint; at most 0.1 of them may be"
        assert f"{lost}: mend them, or allow it with --max-lost 0.12" in err
        assert "2 questions were refused; --ask-refused asks them again" in err
        assert "2 of 18 answers were no letter and are left out, as MMAD does" in out
        found = json.loads((tmp_path / "run/results.json").read_text())
        assert (found["answered"], found["refused"], found["complete"], found["invalid"]) == (18, 2, True, 2)
        (line, other) = map(json.loads, (tmp_path / "run/refused.jsonl").read_text().splitlines())
        assert line["reply"]["error"] == other["reply"]["error"] == "status 400 (content filter)"
        asked = len(endpoint.bodies)
        assert evaluate(mini_mmad, "gpt-x", tmp_path / "run", *options[:-1], "0.12") == 0
        assert len(endpoint.bodies) == asked
        assert evaluate(mini_mmad, "gpt-x", tmp_path / "run", *options, "--ask-refused") == 1
        assert len(endpoint.bodies) == asked + 2
        assert len((tmp_path / "run/refused.jsonl").read_text().splitlines()) == 2
        declining = False
        assert evaluate(mini_mmad, "gpt-x", tmp_path / "run", *options, "--ask-refused") == 0
        assert len(endpoint.bodies) == asked + 4
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert (found["answered"], found["refused"], found["invalid"]) == (18, 0, 0)


def test_a_run_passes_any_number_of_refusals(mini_mmad, tmp_path, capsys):
    def respond(body, number):
        return (413, {}, {"error": {"message": "too large"}}) if number < 30 else completion("A")

    with Endpoint(respond) as endpoint:
        options = ["--backend", "api", "--base-url", endpoint.url, "--concurrency", 1]
        assert evaluate(mini_mmad, "gpt-x", tmp_path / "run", *options) == 0
        assert len(endpoint.bodies) == 72
    assert "20 questions in a row were refused, the last with: status 413 (too large)" in capsys.readouterr().err
    assert json.loads((tmp_path / "run/results.json").read_text())["refused"] == 30


KILLS = pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])


@KILLS
def test_kills_and_the_results_of_one_run(nursery, mini_mmad, model, whole, tmp_path, kills):
    """The command itself, with the model on this machine."""
    run = tmp_path / "killed"
    start = partial(nursery.start, *words(mini_mmad, model, run, "--batch-size", 1))
    kill_again_and_again(start, run, kills=kills, seed=4)
    assert 0 < len(texts(run)) < 72
    assert evaluate(mini_mmad, model, run) == 0
    assert texts(run) == texts(whole.folder)
    assert len((run / "answers.jsonl").read_bytes().splitlines()) == 72
    name = f"answers_1_shot_{model.name}.json"
    assert (run / name).read_bytes() == (whole.folder / name).read_bytes()


@KILLS
def test_kills_while_an_endpoint_answers(nursery, mini_mmad, tmp_path, kills):
    """Several requests are under way when the process dies; what was logged is never asked again."""

    def respond(body, number):
        time.sleep(0.02)
        asked = json.dumps(body["messages"], sort_keys=True)
        return completion("ABCD"[int(hashlib.sha256(asked.encode()).hexdigest(), 16) % 4])

    with Endpoint(respond) as endpoint:
        options = ["--backend", "api", "--base-url", endpoint.url, "--concurrency", 4]
        assert evaluate(mini_mmad, "gpt-x", tmp_path / "whole", *options) == 0
        run = tmp_path / "killed"
        start = partial(nursery.start, *words(mini_mmad, "gpt-x", run, *options))
        kill_again_and_again(start, run, kills=kills, seed=5)
        kept = len(texts(run))
        assert 0 < kept < 72
        before = len(endpoint.bodies)
        assert evaluate(mini_mmad, "gpt-x", run, *options) == 0
        assert len(endpoint.bodies) - before == 72 - kept
    assert texts(run) == texts(tmp_path / "whole")
    assert len(set(texts(run).values())) == 4


def test_several_processes_make_one_result(mini_mmad, model, whole, tmp_path, capsys, monkeypatch):
    from adcopilot.evaluation.backends.transformers_backend import TransformersBackend

    backend = TransformersBackend(model=str(model))
    monkeypatch.setattr(command, "make_backend", lambda args: backend)
    for index in (1, 2, 3):
        assert evaluate(mini_mmad, model, tmp_path / "parts", "--shard", f"{index}/3") == 0
        waiting = "questions are other processes' and not answered yet" in capsys.readouterr().err
        assert waiting == (index < 3)
    parts = json.loads((tmp_path / "parts/results.json").read_text())
    assert {**parts, "seconds": 0} == {**json.loads(whole.out), "seconds": 0}


def test_settings_that_make_other_questions(mini_mmad, model, tmp_path, capsys):
    asked = {}
    for name, options in {
        "plain": [],
        "none": ["--shots", 0],
        "two": ["--shots", 2],
        "similar": ["--template", "similar"],
        "told": ["--domain-knowledge"],
    }.items():
        assert evaluate(mini_mmad, model, tmp_path / name, "--category", "bottle", *options) == 0
        records = list(read_records(tmp_path / name))
        assert {record["meta"]["category"] for record in records} == {"bottle"}
        asked[name] = {record["item"] for record in records}
        assert all(len(record["images"]) == {"none": 1, "two": 3}.get(name, 2) for record in records)
    assert len(set.union(*asked.values())) == 5 * 18
    assert (tmp_path / f"similar/answers_1_shot_{model.name}_Similar_template.json").exists()
    assert (tmp_path / f"told/answers_1_shot_{model.name}_Domain_knowledge.json").exists()
    assert evaluate(mini_mmad, model, tmp_path / "plain", "--shots", 2) == 2
    assert "holds a run with other settings (shots 1, now 2)" in capsys.readouterr().err


def test_a_quick_run_has_an_interval_and_grows(mini_mmad, model, tmp_path, capsys):
    assert evaluate(mini_mmad, model, tmp_path / "run", "--quick", 8) == 0
    assert "95 % interval" in capsys.readouterr().out
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert len({record["meta"]["image"] for record in read_records(tmp_path / "run")}) == 8
    assert found["interval"]["average"][0] <= found["average"]["average"] <= found["interval"]["average"][1]
    first = texts(tmp_path / "run")
    assert evaluate(mini_mmad, model, tmp_path / "run") == 0
    assert first.items() <= texts(tmp_path / "run").items()
    assert len(texts(tmp_path / "run")) == 72


def test_mistakes_are_told_before_the_model_loads(mini_mmad, tmp_path, capsys):
    def refused(*options):
        assert evaluate(mini_mmad, tmp_path / "no-model", tmp_path / "run", *options) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "--shots 3 needs 3" in refused("--shots", 3)
    assert "cannot be read" in refused("--prompts", tmp_path / "none.json")
    assert "--domain-knowledge needs" in refused(
        "--domain-knowledge", "--domain-knowledge-file", tmp_path / "none.json"
    )
    assert "no-model: no such folder" in refused()
    assert not (tmp_path / "run").exists()
    assert cli.main(["eval", "mmad", "--data-root", str(tmp_path), "--model", "m", "--output", "r"]) == 2
    assert "is not MMAD's folder" in capsys.readouterr().err


def test_options_of_endpoints(capsys, monkeypatch):
    args = ["eval", "mmad", "--data-root", "x", "--model", "m", "--output", "r", "--backend", "api"]
    monkeypatch.setattr(command.choosing, "choose", lambda args: ([], ""))
    assert cli.main([*args, "--base-url", "http://localhost:1/v1", "--request", "[1]"]) == 2
    assert "--request is '[1]', expected a JSON object" in capsys.readouterr().err
    assert cli.main(args) == 2
    assert "--base-url" in capsys.readouterr().err
    parsed = cli.Parser()
    command.add_arguments(parsed)
    server = ["--model", "m", "--backend", "vllm", "--base-url", "http://localhost:8000/v1"]
    backend = shared.make_backend(parsed.parse_args([*server, "--request", '{"seed": 1}']))
    assert backend.option_logprobs
    assert backend.extra == {"repetition_penalty": 1.0, "seed": 1}


@pytest.mark.parametrize("conversation", ["earlier-questions", "earlier-answers"])
def test_conversations_have_the_same_answers_whatever_the_batch(mini_mmad, model, tmp_path, conversation):
    found = []
    for name, options in {"many": [], "one": ["--batch-size", 1], "whole": ["--no-reuse", "--batch-size", 3]}.items():
        given = ["--conversation", conversation, "--limit", 3, *options]
        assert evaluate(mini_mmad, model, tmp_path / name, *given) == 0
        found.append(texts(tmp_path / name))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 13
