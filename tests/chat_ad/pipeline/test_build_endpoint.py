"""A build whose text an endpoint writes: nothing is paid for twice, and its whims end in a list."""

import json

import pytest

from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe
from adcopilot.cli import main
from adcopilot.errors import UserError

from ..builds import RECIPE, final_files, records, write_recipe
from ..generation.conftest import completion, endpoint  # noqa: F401 - a fixture

WRITTEN = {"caption", "dialogue", "think"}


@pytest.fixture
def recipe(tmp_path, endpoint):  # noqa: F811
    generator = {
        "kind": "endpoint",
        "url": endpoint.url,
        "model": "local-test",
        "concurrency": 4,
        "first_wait": 0.01,
        "longest_wait": 0.05,
        "timeout": 60,
        "prices": {"prompt": 2.5, "completion": 10},
    }
    return write_recipe(tmp_path, RECIPE, generator=generator)


def test_texts_are_the_endpoints_and_paid_for_once(recipe, endpoint, tmp_path):  # noqa: F811
    output = tmp_path / "out"
    manifest = build(load_recipe(recipe), output)
    made = records(output / "Chat_parts.jsonl")
    assert {record["generator"] for record in made if record["task"] in WRITTEN} == {"local-test"}
    assert {record["generator"] for record in made if record["task"] not in WRITTEN} == {"annotations"}
    assert manifest["outputs"]["Chat_parts"]["generator"] == "local-test"
    assert {record["generator"] for record in records(output / "Caption_parts.jsonl")} == {"local-test"}
    asked = len(endpoint.requests)
    assert asked == len(records(output / "answers/answers.jsonl"))  # each of them once
    cost = json.loads((output / "answers/cost.json").read_text())
    assert cost["total"]["prompt_tokens"] == 1000 * asked
    assert cost["total"]["money"] == pytest.approx(asked * (1000 * 2.5 + 100 * 10) / 1e6)
    # An anomalous query goes with its outlined copy, which is no training data.
    pictures = {sum(part["type"] == "image_url" for part in body["messages"][1]["content"])
                for _, _, body in endpoint.requests}  # fmt: skip
    assert pictures == {2, 3}
    assert not any("marked" in name for record in made for name in record["images"])

    before = final_files(output)
    for path in (output / ".work").rglob("*.parquet"):
        path.unlink()
    build(load_recipe(recipe), output)
    assert final_files(output) == before
    assert len(endpoint.requests) == asked


def test_killed_build_goes_on_with_what_is_paid(recipe, endpoint, tmp_path):  # noqa: F811
    output = tmp_path / "out"
    limited = load_recipe(recipe, settings=["generator.most_tokens=12000"])
    with pytest.raises(UserError, match="budget of 12,000 tokens"):
        build(limited, output)
    paid = len(endpoint.requests)
    assert 0 < paid < 12
    assert len(records(output / "answers/answers.jsonl")) == paid
    assert not (output / "manifest.json").exists()
    build(load_recipe(recipe), output)
    whole = tmp_path / "whole"
    count = len(endpoint.requests)
    build(load_recipe(recipe), whole)
    assert len(endpoint.requests) - count == count
    first, second = final_files(output), final_files(whole)
    assert first == second


def test_whims(recipe, endpoint, tmp_path):  # noqa: F811
    endpoint.script = [
        lambda _: (429, {"Retry-After": "0"}, b"slow down"),
        lambda _: (500, {}, b"oops"),
        lambda _: completion('{"description": "cut off', finish="length"),
        lambda _: completion("I cannot help with that.", refusal="no"),
        lambda _: completion("nonsense"),
        lambda _: completion("nonsense"),
    ]
    output = tmp_path / "out"
    manifest = build(load_recipe(recipe), output)
    assert manifest["outputs"]["Caption_parts"]["records"] >= 3
    listed = records(output / "Caption_parts.dropped.jsonl") + records(output / "Chat_parts.dropped.jsonl")
    assert all(one["reason"] and one["task"] in WRITTEN for one in listed)


def test_annotations_write_what_is_refused(recipe, endpoint, tmp_path):  # noqa: F811
    endpoint.always = lambda _: completion("I cannot help with that.", refusal="no")
    output = tmp_path / "out"
    manifest = build(load_recipe(recipe, settings=["generator.fallback=true"]), output)
    assert manifest["outputs"]["Caption_parts"]["records"] == 5
    assert {record["generator"] for record in records(output / "Caption_parts.jsonl")} == {"annotations"}
    listed = records(output / "Caption_parts.dropped.jsonl")
    assert listed
    assert all(one.get("fallback") for one in listed)


def test_one_output_without_the_endpoint(recipe, endpoint, tmp_path):  # noqa: F811
    settings = ["outputs.Chat_parts.generator=annotations"]
    build(load_recipe(recipe, settings=settings), tmp_path / "out")
    assert {record["generator"] for record in records(tmp_path / "out/Chat_parts.jsonl")} == {"annotations"}
    assert {record["generator"] for record in records(tmp_path / "out/Caption_parts.jsonl")} == {"local-test"}


def test_dead_endpoint_is_one_line(recipe, tmp_path, capsys, monkeypatch):
    dead = ["--set", "generator.url=http://127.0.0.1:9/v1", "--set", "generator.give_up=2"]
    dead += ["--set", "generator.attempts=1"]
    assert main(["data", "build", str(recipe), "--output", str(tmp_path / "out"), *dead]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "127.0.0.1:9" in errors[0]


def test_key_is_needed_and_not_kept(recipe, endpoint, tmp_path, monkeypatch):  # noqa: F811
    settings = ["generator.key_variable=ADCOPILOT_TEST_KEY"]
    with pytest.raises(UserError, match="ADCOPILOT_TEST_KEY"):
        build(load_recipe(recipe, settings=settings), tmp_path / "out")
    monkeypatch.setenv("ADCOPILOT_TEST_KEY", "sk-very-secret")
    build(load_recipe(recipe, settings=settings), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()
