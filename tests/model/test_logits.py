"""Logits while training: made where an answer is judged, with the loss and the gradients of stock Qwen2.5-VL."""

import inspect

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from adcopilot.model import AdCopilotForConditionalGeneration

from .conftest import encode

pytestmark = pytest.mark.forward


@pytest.fixture
def training(model, monkeypatch):
    monkeypatch.setattr(type(model), "logits_where_labels", True)  # as LlamaFactory does
    model.train()
    yield model
    model.eval()
    model.zero_grad(set_to_none=True)


def labelled(processor, conversations, ends):
    """Two conversations, of which the last tokens before some end are to be learnt; padding is on the left."""
    batch = encode(processor, conversations)
    labels = torch.full_like(batch["input_ids"], -100)
    for row, (begin, end) in enumerate(ends):
        labels[row, begin:end] = batch["input_ids"][row, begin:end]
    return batch, labels


def gradients(model, batch, labels, **kwargs):
    model.zero_grad(set_to_none=True)
    out = model(**batch, labels=labels, use_cache=False, **kwargs)
    out.loss.backward()
    return out, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("ends", [((-9, -2), (-5, None)), ((-4, None), (0, 0)), ((0, None), (0, None))])
@pytest.mark.parametrize("items", [None, 7])
def test_loss_and_gradients_are_those_of_all_logits(training, processor, conversations, ends, items, monkeypatch):
    batch, labels = labelled(processor, conversations[:2], ends)
    more = {} if items is None else {"num_items_in_batch": items}
    out, found = gradients(training, batch, labels, **more)
    places = (labels[:, 1:] != -100).any(0).sum()
    assert out.logits.shape[1] == places
    monkeypatch.setattr(type(training), "logits_where_labels", False)
    every, expected = gradients(training, batch, labels, **more)
    assert every.logits.shape[1] == labels.shape[1]
    torch.testing.assert_close(out.loss, every.loss, atol=1e-6, rtol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_all_logits_where_they_are_asked_for(training, processor, conversations):
    batch, labels = labelled(processor, conversations[:2], ((-4, None), (-4, None)))
    length = labels.shape[1]
    assert training(**batch, use_cache=False).logits.shape[1] == length
    assert training(**batch, labels=labels, logits_to_keep=0, use_cache=False).logits.shape[1] == length
    nothing = torch.full_like(labels, -100)
    assert training(**batch, labels=nothing, use_cache=False).logits.shape[1] == length
    training.eval()
    assert training(**batch, labels=labels, use_cache=False).logits.shape[1] == length


def test_all_logits_for_other_trainers(training, processor, conversations, monkeypatch):
    """TRL's SFTTrainer holds the logits of training against the whole text."""
    monkeypatch.undo()
    batch, labels = labelled(processor, conversations[:2], ((-4, None), (-4, None)))
    assert training(**batch, labels=labels, use_cache=False).logits.shape[1] == labels.shape[1]


def test_the_signature_is_upstreams():
    """`generate` and transformers' Trainer read what a model takes from it."""
    ours, theirs = AdCopilotForConditionalGeneration.forward, Qwen2_5_VLForConditionalGeneration.forward
    assert inspect.signature(ours) == inspect.signature(theirs)
