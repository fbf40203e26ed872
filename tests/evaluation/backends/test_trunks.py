"""Pairs with the same templates: their common beginning runs once, and the answers stay those of `generate`."""

import dataclasses

import pytest
import torch

from adcopilot.evaluation.backends import transformers_backend, trunks
from adcopilot.evaluation.backends.trunks import trunk_length

from .conftest import QUESTIONS, make_group, picture
from .test_transformers_backend import backends, by_generate, folders, tokens_and_replies  # noqa: F401 - fixtures

pytestmark = pytest.mark.forward


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Two templates with three queries each, two templates together with two, and a pair of its own; they come mixed.

    The queries have other sizes than the templates and than one another.
    """
    folder = tmp_path_factory.mktemp("line")
    templates = [picture(folder / f"t{number}.png", (84, 56 + 28 * number), number) for number in range(2)]
    items = []
    for number in range(3):
        for name, used in (("a", templates[:1]), ("b", templates[1:]), ("both", templates))[: 2 + (number < 2)]:
            query = picture(folder / f"{name}{number}.png", (84 + 28 * number, 56), 7 * number + len(name))
            group = make_group(folder, f"{name}{number}-", [(28, 28)] * (len(used) + 1), QUESTIONS[:3])
            items += [dataclasses.replace(item, images=(*used, query)) for item in group]
    return items + make_group(folder, "own", [(84, 56), (56, 84)], QUESTIONS[:2])


@pytest.fixture
def runs(monkeypatch):
    """How many rows each function has run."""
    counts = {"plant": 0, "grow": 0}
    for name in counts:
        original = getattr(transformers_backend, name)

        def counted(model, rows, *args, _name=name, _original=original, **options):
            counts[_name] += len(rows)
            return _original(model, rows, *args, **options)

        monkeypatch.setattr(transformers_backend, name, counted)
    return counts


@pytest.mark.parametrize("name", ["ad", "fixed", "later", "qwen"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_same_tokens_as_generate(backends, line, name, batch_size, monkeypatch, runs):  # noqa: F811
    backend = backends(name, batch_size=batch_size)
    found = tokens_and_replies(backend, line, monkeypatch)
    assert set(found) == {item.key for item in line}
    for item in line:
        tokens, reply = found[item.key]
        expected, logprobs = by_generate(backend, item)
        assert tokens == expected, item.key
        if item.options:
            letter = logprobs[backend.option_tokens(item)["A"]].logsumexp(0).item()
            assert reply.option_logprobs["A"] == pytest.approx(letter, abs=1e-3)
    # Templates a, b and both of them: once each, whatever the batches; eight pairs grow from them, and one whole.
    assert runs == {"plant": 3, "grow": 8 + 1}


def test_each_template_goes_through_the_tower_once(backends, line, monkeypatch):  # noqa: F811
    backend = backends("ad", batch_size=4)
    inner, images = type(backend.model.model), []
    original = inner.get_image_features

    def counted(self, pixel_values, grid, *args):
        images.append(len(grid))
        return original(self, pixel_values, grid, *args)

    monkeypatch.setattr(inner, "get_image_features", counted)
    assert all(reply.error is None for _, reply in backend.answer(line, max_new_tokens=1))
    assert sum(images) == 1 + 1 + 2 + 8 + 2  # trunks, queries, the pair of its own


def test_another_template_is_another_answer(backends, line):  # noqa: F811
    """The query is compared with its trunk's last image and not with another row's."""
    backend = backends("ad", batch_size=64)
    said = {item.key: reply.text for item, reply in backend.answer(line, max_new_tokens=10)}
    swapped = [
        dataclasses.replace(item, images=(other.images[0], item.images[1]))
        for item, other in zip(line[0:3] + line[3:6], line[3:6] + line[0:3], strict=True)
    ]
    rest = [item for item in line if item.key not in {one.key for one in swapped}]
    now = {item.key: reply.text for item, reply in backend.answer(swapped + rest, max_new_tokens=10)}
    assert all(now[item.key] == said[item.key] for item in rest)
    assert any(now[item.key] != said[item.key] for item in swapped)


def test_a_batch_that_does_not_fit_goes_on_in_parts(backends, line, monkeypatch):  # noqa: F811
    backend, failed = backends("ad", batch_size=64), []
    original = transformers_backend.grow

    def grow(model, rows, *more, **options):
        if len(rows) > 2:
            failed.append(len(rows))
            raise torch.OutOfMemoryError("no")
        return original(model, rows, *more, **options)

    whole = {item.key: reply.text for item, reply in backend.answer(line, max_new_tokens=4)}
    monkeypatch.setattr(transformers_backend, "grow", grow)
    parts = {item.key: reply.text for item, reply in backend.answer(line, max_new_tokens=4)}
    assert failed
    assert parts == whole


def test_tokens_that_are_not_the_images_are_an_error(backends, line):  # noqa: F811
    backend = backends("ad", batch_size=64)
    backend._shared = {line[0].images[:-1]}
    group = backend._prepare([item for item in line if item.group == line[0].group])
    trunk, rest = group.stems()
    [planted] = trunks.plant(backend.model, [trunk], pad=backend.greedy.pad)
    with pytest.raises(ValueError, match="image tokens in the prompts"):
        trunks.grow(
            backend.model, [dataclasses.replace(rest, start=rest.start + 12)], [planted], pad=backend.greedy.pad
        )


def test_where_a_trunk_ends():
    assert trunk_length([5, 1, 9, 6, 1, 9, 7], image_end=9) == 3
    assert trunk_length([1, 9, 2, 9, 3, 9, 4], image_end=9) == 4
    assert trunk_length([1, 9, 2], image_end=9) == 0
    assert trunk_length([1, 2], image_end=9) == 0
