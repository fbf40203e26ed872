"""`adcopilot eval mmad --protocol`: runs that ask in MMAD's own wording."""

import json

from adcopilot import cli
from adcopilot.evaluation.run_folder import read_manifest, read_records

from ...report.report_runs import Scripted, evaluate
from .mini_mmad_repository import COMMIT, QWEN25
from .test_mmad_protocol import ROLE


def test_a_run_says_whose_words_it_asked_with(mini_mmad, checkout, tmp_path, monkeypatch, capsys):
    model = Scripted(name="M", share=0.5)
    run = evaluate(
        monkeypatch, "mmad", mini_mmad, tmp_path / "theirs", model, "--protocol", checkout, "--domain-knowledge"
    )
    out, err = capsys.readouterr()
    line = f"asked in MMAD's wording (evaluation/examples/Transformers/qwen2_5_vl_query.py, commit {COMMIT[:12]}), "
    line += "1-shot (random), with domain knowledge"
    assert line in out.splitlines()
    assert "asking in MMAD's wording (evaluation/examples/Transformers/qwen2_5_vl_query.py, commit" in err
    told = read_manifest(run)["selection"]["wording"]
    assert told["text"]["prefix"][:3] == [ROLE, "A letter, please! ", "What we know of cups: \n {text}"]
    assert told["text"]["question"] == "Riddle {number}: {question} \n{options}"
    found = json.loads((run / "results.json").read_text())["wording"]
    assert (found["whose"], found["commit"], found["sha256"]) == ("MMAD's wording", COMMIT, told["sha256"])
    assert cli.main(["eval", "mmad", "--score", str(run)]) == 0
    assert line in capsys.readouterr().out

    own = evaluate(monkeypatch, "mmad", mini_mmad, tmp_path / "own", model)
    assert "asked in AD-Copilot's wording, 1-shot (random)" in capsys.readouterr().out.splitlines()
    assert read_manifest(own)["selection"]["wording"]["whose"] == "AD-Copilot's wording"
    (tmp_path / "mine.json").write_text('{"form": "Say it.\\n"}')
    mine = evaluate(
        monkeypatch, "mmad", mini_mmad, tmp_path / "mine", model, "--prompts", tmp_path / "mine.json", "--shots", 0
    )
    assert "asked in wording of mine.json, 0-shot" in capsys.readouterr().out.splitlines()
    assert "Say it." in read_manifest(mine)["selection"]["wording"]["text"]["prefix"][0]
    (file,) = own.glob("answers_1_shot_*.json")
    assert cli.main(["eval", "mmad", "--score", str(file)]) == 0
    assert "wording not known" in capsys.readouterr().out.splitlines()


def test_other_words_want_another_run_and_another_commit_does_not(mini_mmad, own, tmp_path, monkeypatch, capsys):
    model, run = Scripted(name="M", share=0.5), tmp_path / "run"
    words = ["eval", "mmad", "--data-root", str(mini_mmad), "--model", "M", "--output", str(run), "--limit", "4"]
    evaluate(monkeypatch, "mmad", mini_mmad, run, model, "--protocol", own, "--limit", 4)
    (own / ".git/refs/heads/main").write_text("b" * 40)
    assert cli.main([*words, "--protocol", str(own)]) == 0
    assert cli.main(words) == 2
    assert "holds a run with other settings (prompts" in capsys.readouterr().err
    script = own / "evaluation/examples/Transformers/qwen2_5_vl_query.py"
    script.write_text(QWEN25.replace("A letter, please!", "Any letter!"))
    assert cli.main([*words, "--protocol", str(own)]) == 2
    assert "holds a run with other settings (prompts" in capsys.readouterr().err
    for options, message in (
        (["--protocol", str(own), "--prompts", "x.json"], "--protocol and --prompts both say what to ask with"),
        (["--protocol-file", "x.py"], "--protocol-file is a script below --protocol CHECKOUT"),
        (["--protocol", str(tmp_path / "no")], "no such folder; expected a copy of MMAD's repository"),
    ):
        assert cli.main([*words, *options]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


class Reading(Scripted):
    """Says what it was asked last, and how much it has seen before."""

    def reply(self, item):
        reply = super().reply(item)
        self.asked = [*getattr(self, "asked", []), item]
        return reply


def test_earlier_questions_in_view(mini_mmad, checkout, tmp_path, monkeypatch, capsys):
    model = Reading(name="M", share=0.5)
    run = evaluate(monkeypatch, "mmad", mini_mmad, tmp_path / "run", model, "--protocol", checkout, "--conversation",
                   "earlier-questions", "--limit", 2)  # fmt: skip
    assert "with earlier questions in view" in capsys.readouterr().out
    counts = sorted(item.question.count("Riddle ") for item in model.asked)
    assert counts == sorted([1, 2, 3, 4] * 2)
    for record in read_records(run):
        assert record["question"].rstrip().splitlines()[-5:][0].startswith("Riddle ") or len(record["options"]) == 2
    again = [*map(str, ("eval", "mmad", "--data-root", mini_mmad, "--model", "M", "--output", run, "--limit", 2))]
    assert cli.main([*again, "--protocol", str(checkout)]) == 2
    assert 'conversation "earlier-questions", now null' in capsys.readouterr().err


def test_earlier_answers_in_view_go_on_after_a_stop_and_in_shards(mini_mmad, checkout, tmp_path, monkeypatch):
    def ask(run, *options):
        model = Reading(name="M", share=0.5)
        evaluate(monkeypatch, "mmad", mini_mmad, run, model, "--protocol", checkout, "--conversation",
                 "earlier-answers", *options)  # fmt: skip
        return model.asked

    asked = ask(tmp_path / "whole")
    answers = {record["item"]: record["reply"]["text"] for record in read_records(tmp_path / "whole")}
    by_group = {}
    for item in asked:
        by_group.setdefault(item.group, []).append(item)
    for group in by_group.values():
        for place, item in enumerate(group):
            assert item.history == tuple((one.question, answers[one.key]) for one in group[:place])
    for index in (1, 2):
        ask(tmp_path / "parts", "--shard", f"{index}/2")
    parts = {record["item"]: record["reply"]["text"] for record in read_records(tmp_path / "parts")}
    assert parts == answers
    # Half of the answers are lost with a killed process; those that are asked again see the ones that are left.
    log = tmp_path / "whole/answers.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: len(lines) // 2]))
    again = ask(tmp_path / "whole")
    assert len(again) == len(lines) - len(lines) // 2
    assert {record["item"]: record["reply"]["text"] for record in read_records(tmp_path / "whole")} == answers
    assert {item.key: item.history for item in again}.items() <= {item.key: item.history for item in asked}.items()
