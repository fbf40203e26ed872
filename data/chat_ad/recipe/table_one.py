"""Table I of the paper: which data sets each training stage sees, under which names, and how many samples of each.

The names are those that `dataset_info.json` registers, the YAMLs of `examples/train/7b` list and the files in
`data/built` carry. Table I names the three sets of image differences twice, rounded in stage 0 (9k, 9k, 12k) and to
the hundred in stage 1 (8.9k, 8.8k, 12.5k); both stages read one file, so the finer amount is the default.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CONVERTERS", "GENERAL", "STAGES", "TABLE_ONE", "default_amount", "names"]

#: By stage, in the paper's order: the data set's name and its samples.
TABLE_ONE: Mapping[int, Mapping[str, int]] = {
    0: {"CLEVR-Change": 9_000, "MagicBrush": 9_000, "Spot-the-diff": 12_000},
    1: {
        "Caption_3CAD": 16_100,
        "Caption_MANTA": 48_500,
        "Caption_Real_IAD": 64_000,
        "Caption_Real_IAD_Variety": 26_200,
        "Caption_VISION": 1_600,
        "Caption_MPDD": 500,
        "Caption_VIADUCT": 5_200,
        "PixMo-cap": 22_000,
        "CLEVR-Change": 8_900,
        "MagicBrush": 8_800,
        "Spot-the-diff": 12_500,
    },
    2: {
        "Chat_3CAD": 16_100,
        "Chat_MANTA": 48_500,
        "Chat_Real_IAD": 59_600,
        "Chat_Real_IAD_Variety": 26_100,
        "Chat_VISION": 1_600,
        "Chat_MPDD": 500,
        "Chat_VIADUCT": 5_200,
        "Chat_reinad": 40_000,
        "M4_Instruct": 25_000,
        "LLaVA_V1.5_mix665k": 25_000,
        "OLMo-2-SFT": 50_000,
    },
    3: {
        "Chat_3CAD_RL": 16_100,
        "Chat_MANTA_RL": 48_500,
        "Chat_Real_IAD_RL": 59_600,
        "Chat_Real_IAD_Variety_RL": 26_100,
        "Chat_VISION_RL": 1_600,
        "Chat_MPDD_RL": 500,
        "Chat_VIADUCT_RL": 5_200,
        "Chat_reinad_RL": 40_000,
    },
}

STAGES = tuple(TABLE_ONE)

#: The sets that are not of industrial images; `adcopilot data convert` makes them.
GENERAL = (
    "CLEVR-Change",
    "MagicBrush",
    "Spot-the-diff",
    "PixMo-cap",
    "M4_Instruct",
    "LLaVA_V1.5_mix665k",
    "OLMo-2-SFT",
)

#: The word behind `adcopilot data convert` that makes each.
CONVERTERS: Mapping[str, str] = dict(
    zip(
        ("clevr-change", "magicbrush", "spot-the-diff", "pixmo-cap", "m4-instruct", "llava-mix", "olmo-sft"),
        GENERAL,
        strict=True,
    )
)


def names() -> list[str]:
    """All names of Table I, each once, in order of first appearance."""
    return list(dict.fromkeys(name for stage in TABLE_ONE.values() for name in stage))


def default_amount(name: str) -> int:
    """Samples of a set: of the last stage that lists it.

    Raises:
        KeyError: Table I has no such set.
    """
    found = [stage[name] for stage in TABLE_ONE.values() if name in stage]
    if not found:
        raise KeyError(name)
    return found[-1]
