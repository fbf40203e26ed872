"""`make demo-grpo`: its plan of commands and the page it writes."""

import json
from xml.etree import ElementTree

import pytest

from adcopilot.errors import UserError
from adcopilot.sample.grpo_demo import Curve, demo, plan, read_curve, report, svg


def test_plan_uses_the_shipped_yamls(tmp_path):
    steps = plan(tmp_path, tmp_path / "base", tmp_path / "data", seeds=[4, 5], overrides=["max_steps=3"])
    names = ["thinking", "export start", "seed 4", "seed 5", "w/o bbox reward", "w/o choice reward", "export"]
    assert [step.name for step in steps] == names
    for step in steps:
        with open(step.command[2]) as file:
            assert "examples" in step.command[2]
            assert file.read()
    assert f"model_name_or_path={tmp_path / 'base'}" in steps[0].command
    for step in steps[2:6]:
        assert f"model_name_or_path={tmp_path / 'start'}" in step.command
        assert "max_steps=3" in step.command
    assert "bbox_reward=false" in steps[4].command
    assert f"adapter_name_or_path={tmp_path / 'seed4'}" in steps[6].command
    assert len({step.output for step in steps}) == len(steps)


def test_a_curve_is_what_the_trainer_logged(tmp_path):
    history = [
        {"step": 0, "eval_reward": 1.25, "eval_rewards/format/mean": 0.9, "eval_rewards/choice/mean": 0.5},
        {"step": 5, "reward": 1.5, "seconds/step": 2.0, "seconds/rollout": 1.0, "seconds/reward": 0.25},
        {"step": 10, "reward": 1.5, "seconds/step": 4.0, "seconds/rollout": 2.0, "seconds/reward": 0.25},
        {"step": 10, "eval_reward": 1.75, "eval_rewards/boxes/mean": 0.25},
        {"step": 10, "train_runtime": 90.0},
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    curve = read_curve("seed 0", tmp_path)
    assert curve.steps == {
        0: {"reward": 1.25, "format": 0.9, "choice": 0.5},
        10: {"reward": 1.75, "boxes": 0.25},
    }
    assert curve.parts == {"step": 3.0, "rollout": 1.5, "reward": 0.25}
    other = Curve(name="seed 1", steps={0: {"reward": 1.0}, 10: {"reward": 1.25}}, seconds=30.0, parts={})
    text = report([curve, other], seeds=2, command="make demo-grpo", hardware="2 cores")
    assert "| seed 0, after 10 steps | 1.750 | – | – | 0.250 |" in text
    assert "Gain in reward over 2 seeds: +0.375 (standard deviation 0.177)." in text
    assert "forward and backward 1.25" in text
    assert "seed 0 1.5, seed 1 0.5" in text
    told = ElementTree.fromstring(svg([curve, other])).get("aria-label")
    assert told == "Held-out reward by step. seed 0: 0: 1.25, 10: 1.75; seed 1: 0: 1.00, 10: 1.25"


def test_without_the_demos_model(tmp_path):
    with pytest.raises(UserError, match="run `make demo` first"):
        demo(output=tmp_path, base=tmp_path / "none", seeds=[0], count=10, overrides=[], results=None)
    with pytest.raises(UserError, match=r"trainer_state\.json: cannot be read"):
        read_curve("seed 0", tmp_path)
