"""What a run tells the person who watches it."""

import re
from types import SimpleNamespace

import pytest

from adcopilot.grpo.progress import FLAT, Progress, flat_line, step_line

from .conftest import write_run

LOGS = {
    "loss": 0.01,
    "completions/mean_length": 62.6,
    "completions/clipped_ratio": 0.0,
    "rewards/format/mean": 0.5,
    "rewards/format/std": 0.25,
    "rewards/boxes/mean": 0.125,
    "reward": 0.625,
    "reward_std": 0.3,
    "frac_reward_zero_std": 0.25,
    "kl": 0.0123,
}
FLAT_LOGS = {**LOGS, "frac_reward_zero_std": 1.0}
CONFIG = SimpleNamespace(temperature=0.9, num_generations=8, max_completion_length=96)


def test_a_line_a_step():
    said = step_line(LOGS, first=12, step=12, steps=150, seconds=3725)
    assert said == (
        "step 12/150 | reward 0.625 ± 0.300 (format 0.500 ± 0.250, boxes 0.125) | rewards vary in 75% of groups | "
        "KL 0.0123 | 63 tokens | 1:02:05 left"
    )
    said = step_line({**LOGS, "completions/clipped_ratio": 0.1}, first=6, step=10, steps=150, seconds=1)
    assert said.startswith("steps 6-10/150 | ")
    assert " | 63 tokens, 10% cut | " in said
    without = {key: value for key, value in LOGS.items() if key != "kl"}  # with beta 0 there is none
    assert "KL" not in step_line(without, first=1, step=1, steps=2, seconds=1)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({}, r"raise temperature \(0\.9\) or num_generations \(8\)$"),
        ({"rewards/format/mean": 0.0, "rewards/boxes/mean": 0.0}, "none earns anything: fine-tune the policy"),
        ({"rewards/format/mean": 1.0, "rewards/boxes/mean": 1.0}, "every answer is right already: take harder"),
        ({"completions/clipped_ratio": 0.75}, "75% of completions are cut at max_completion_length 96: raise it"),
    ],
)
def test_the_remedy_is_for_what_is_wrong(changes, remedy):
    said = flat_line({**FLAT_LOGS, **changes}, CONFIG, steps=6)
    assert said.startswith("rewards did not vary for 6 steps: all 8 completions of each prompt earned the same")
    assert re.search(remedy, said)
    assert "\n" not in said


def told(logs, *, every=1, main_process=True):
    """What is said of such logs, one each so many steps."""
    lines = []
    progress = Progress(lines.append)
    state = SimpleNamespace(global_step=0, max_steps=100, is_world_process_zero=main_process)
    progress.on_train_begin(CONFIG, state, None)
    for one in logs:
        state.global_step += every
        progress.on_log(CONFIG, state, None, logs=one)
        progress.on_log(CONFIG, state, None, logs={f"eval_{key}": value for key, value in one.items()})
    return lines


def test_said_once_until_rewards_vary_again():
    lines = told([LOGS, *[FLAT_LOGS] * (2 * FLAT), LOGS, *[FLAT_LOGS] * FLAT])
    flat = [number for number, line in enumerate(lines) if line.startswith("rewards did not vary")]
    assert flat == [FLAT + 1, 3 * FLAT + 3]
    assert len(lines) == 3 * FLAT + 2 + 2
    assert not any("did not vary" in line for line in told([*[FLAT_LOGS] * (FLAT - 1), LOGS]))
    assert "did not vary for 10 steps" in told([FLAT_LOGS], every=10)[1]
    assert told([LOGS], main_process=False) == []


def test_a_policy_that_earns_nothing_is_told_of(untrained_policy, rl_data, tmp_path, run):
    """The whole command: an untrained model never keeps the form, and TRL's own numbers stay as they were."""
    settings = {"max_steps": FLAT, "max_completion_length": 4, "save_strategy": "no"}
    code, out, err = run("grpo", write_run(tmp_path, untrained_policy, rl_data, **settings))
    assert code == 0
    lines = [line for line in err.splitlines() if line.startswith("step ")]
    assert [line.split(" | ")[0] for line in lines] == [f"step {step}/{FLAT}" for step in range(1, FLAT + 1)]
    assert all("rewards vary in 0% of groups" in line for line in lines)
    assert f"rewards did not vary for {FLAT} steps" in err
    assert out.count("'frac_reward_zero_std': 1.0") == FLAT
