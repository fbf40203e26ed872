"""Runs of `adcopilot grpo` in this process, and what they leave."""

import json

from safetensors.torch import load_file

from adcopilot.grpo.command import train
from adcopilot.grpo.settings import read_settings


def run(file, overrides=()):
    return train(*read_settings(file, overrides))


def rollouts(folder):
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")
