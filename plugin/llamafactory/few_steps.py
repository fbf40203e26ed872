"""A training of a handful of optimizer steps ends well and has taught the model nothing: it is said at its start."""

from __future__ import annotations

import math
from collections.abc import Sized

__all__ = ["FEW", "optimizer_steps", "say_few_steps"]

#: Fewer are not enough for anything that a person would call a trained model.
FEW = 20


def optimizer_steps(records: int, training_args) -> tuple[int, int]:
    """As transformers' `Trainer` counts them: (steps of an epoch, records of a step).

    Args:
        records: rows of the training set; of packed rows where packing made them.
        training_args: transformers' `TrainingArguments`.
    """
    batch = training_args.train_batch_size * training_args.world_size
    batches = records // batch if training_args.dataloader_drop_last else math.ceil(records / batch)
    accumulated = training_args.gradient_accumulation_steps
    return max(math.ceil(batches / accumulated), 1), batch * accumulated


def say_few_steps(dataset, data_args, training_args) -> None:
    """Warn in one line where the data make fewer than `FEW` steps. Who gave `max_steps` has counted them already.

    Args:
        dataset: to train on; one that is streamed has no length, and nothing is said.
        data_args: LlamaFactory's.
        training_args: transformers' `TrainingArguments`.
    """
    if not isinstance(dataset, Sized) or training_args.max_steps > 0 or training_args.process_index != 0:
        return
    # The board shows what LlamaFactory's own logger is told, and no other.
    from llamafactory.extras.logging import get_logger

    an_epoch, batch = optimizer_steps(len(dataset), training_args)
    steps = math.ceil(training_args.num_train_epochs * an_epoch)
    if steps >= FEW:
        return
    shown = training_args.logging_steps
    unseen = f", of which logging_steps {shown:g} shows none" if shown >= 1 and shown > steps else ""
    get_logger("llamafactory.adcopilot").warning(
        f"adcopilot: {','.join(data_args.dataset or [])}: {_many(len(dataset), 'record')} in batches of {batch} make "
        f"{_many(steps, 'optimizer step')} in {_many(training_args.num_train_epochs, 'epoch')}{unseen}; so few teach "
        f"a model nothing: give it more records, lower per_device_train_batch_size or gradient_accumulation_steps, or "
        f"set num_train_epochs={math.ceil(FEW / an_epoch)} or more"
    )


def _many(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"
