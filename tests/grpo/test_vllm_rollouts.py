"""`adcopilot grpo` with rollouts from a real `vllm serve`: `make test-vllm` runs them in the training environment."""

import json
import os
import threading
from contextlib import ExitStack, nullcontext
from urllib.parse import urlsplit

import pytest

from tests.grpo.conftest import write_run
from tests.grpo.runs import rollouts, run
from tests.vllm import serving

WANTED = os.environ.get("ADCOPILOT_TEST_VLLM") == "1"
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    # A mark, not a fixture: the module's server would be started before a fixture of the test could skip.
    pytest.mark.skipif(not WANTED, reason="starts vLLM, which takes minutes: run by `make test-vllm`"),
]


@pytest.fixture(scope="module")
def server(policy_dir, tmp_path_factory):
    if reason := serving.why_not():
        pytest.skip(reason)
    with serving.serve(policy_dir, log=tmp_path_factory.mktemp("vllm") / "server.log") as running:
        yield running


def settings(policy_dir, rl_data, folder, url, **changes):
    server = {"rollout_server": [url], "lora_rank": 8, "lora_alpha": 16, "learning_rate": 5e-3, "max_steps": 3}
    return write_run(folder, policy_dir, rl_data, **{**server, "save_steps": 1, **changes})


def test_the_policy_that_is_trained_is_the_policy_that_answers(server, policy_dir, rl_data, tmp_path):
    """Drawn at a temperature near 0, each step's completions are those of transformers with that step's adapter."""
    import torch
    from peft import PeftModel

    from adcopilot.grpo.policy import load_policy
    from adcopilot.grpo.prompts import RolloutPrompts

    # Rewards differ only if completions do, so the adapter is moved by hand after each step.
    from adcopilot.grpo.trainer import AdCopilotGRPOTrainer
    from adcopilot.images import open_image

    original = AdCopilotGRPOTrainer.training_step

    def moves(self, *positional, **named):
        loss = original(self, *positional, **named)
        generator = torch.Generator().manual_seed(self.state.global_step)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if "lora_B" in name:
                    weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdCopilotGRPOTrainer, "training_step", moves)
        run(settings(policy_dir, rl_data, tmp_path, server.url, temperature=0.01))
    rows = rollouts(tmp_path / "out")
    assert {row["step"] for row in rows} == {0, 1, 2}

    model, processor = load_policy(str(policy_dir), attention="eager", bf16=False)
    model = PeftModel.from_pretrained(model, tmp_path / "out" / "checkpoint-2").eval()
    records = {record["key"]: record for record in map(json.loads, (rl_data / "rl.jsonl").read_text().splitlines())}
    asked = [row for row in rows if row["step"] == 2]
    prompts = RolloutPrompts(
        records=[records[row["record"]] for row in asked],
        processor=processor,
        media_dir=rl_data,
        image_max_pixels=768 * 768,
        image_min_pixels=1024,
        think=True,
        cutoff_len=2048,
        max_completion_length=32,
    )
    changed = []
    for row, item in zip(asked, prompts, strict=True):
        text = processor.apply_chat_template(item["prompt"], tokenize=False, add_generation_prompt=True)
        images = [open_image(path) for path in item["images"]]
        inputs = processor(text=[text], images=images, return_tensors="pt")
        texts = []
        for adapter in (nullcontext(), model.disable_adapter()):
            with adapter:
                tokens = model.generate(**inputs, do_sample=False, max_new_tokens=32, use_cache=True)
            texts.append(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        assert [one["text"] for one in row["completions"]].count(texts[0]) >= 3  # near greedy, not greedy
        changed.append(texts[0] != texts[1])
    assert any(changed)  # the adapter makes a difference


def test_a_server_killed_in_mid_run_comes_back(server, policy_dir, rl_data, tmp_path):
    """The last test of this file: the server is the others', another at its address when this one is done."""
    from adcopilot.grpo.servers import RolloutServers

    original, threads = RolloutServers.generate, []

    with ExitStack() as stack:

        def start():
            again = serving.serve(policy_dir, log=tmp_path / "again.log", port=urlsplit(server.url).port)
            stack.enter_context(again)

        def kills(self, **named):
            if not threads:
                serving.stop(server.process)
                threads.append(threading.Thread(target=start))
                threads[0].start()
            return original(self, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RolloutServers, "generate", kills)
            trainer = run(settings(policy_dir, rl_data, tmp_path, server.url, max_steps=2))
        threads[0].join()
    assert trainer.state.global_step == 2
    assert {row["step"] for row in rollouts(tmp_path / "out")} == {0, 1}
