"""A training of a handful of optimizer steps is said at its start, counted as transformers counts."""

import logging

import pytest
import torch

from .conftest import record


def training_args(tmp_path, **changes):
    from transformers import TrainingArguments

    return TrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, report_to="none", **changes)


@pytest.mark.parametrize(
    ("records", "settings"),
    [
        (30, {"per_device_train_batch_size": 32}),
        (33, {"per_device_train_batch_size": 32}),
        (33, {"per_device_train_batch_size": 32, "dataloader_drop_last": True}),
        (30, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
        (7, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8, "num_train_epochs": 2.5}),
    ],
)
def test_as_many_steps_as_the_trainer_makes(tmp_path, records, settings):
    import math

    from transformers import Trainer

    from adcopilot.llamafactory.few_steps import optimizer_steps

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, labels=None):
            return {"loss": (self.weight * x).sum()}

    args = training_args(tmp_path, disable_tqdm=True, save_strategy="no", **settings)
    data = [{"x": 1.0, "labels": 0} for _ in range(records)]
    trainer = Trainer(model=Model(), args=args, train_dataset=data)
    trainer.train()
    an_epoch, batch = optimizer_steps(records, args)
    assert math.ceil(an_epoch * args.num_train_epochs) == trainer.state.global_step
    assert batch == settings["per_device_train_batch_size"] * settings.get("gradient_accumulation_steps", 1)


@pytest.fixture
def said(llamafactory):
    """What LlamaFactory's own logger is told, which LlamaBoard shows."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda entry: lines.append(entry.getMessage())
    logger = logging.getLogger("llamafactory")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def load(load, dataset_dir, image_files):
    """Has LlamaFactory load thirty records for a training with these settings."""
    dataset_dir[1](*[record(image_files[:2])] * 30)
    return lambda template="adcopilot", **settings: load(template, training={"do_train": True, **settings})


def test_few_steps_are_said_before_training(load, said):
    load(per_device_train_batch_size=32, num_train_epochs=1, logging_steps=20)
    [line] = [line for line in said if line.startswith("adcopilot: ")]
    assert line == (
        "adcopilot: parts: 30 records in batches of 32 make 1 optimizer step in 1 epoch, of which logging_steps 20 "
        "shows none; so few teach a model nothing: give it more records, lower per_device_train_batch_size or "
        "gradient_accumulation_steps, or set num_train_epochs=20 or more"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"per_device_train_batch_size": 32, "num_train_epochs": 20},
        {"per_device_train_batch_size": 32, "max_steps": 3},
        {"per_device_train_batch_size": 32, "template": "qwen2_vl"},
    ],
)
def test_nothing_is_said_of_other_trainings(load, said, settings):
    load(**settings)
    assert not [line for line in said if line.startswith("adcopilot: ")]
