"""What a training run needs of a GPU, counted at 7B's shapes; preflight refuses what cannot fit."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import yaml

from adcopilot.errors import UserError
from adcopilot.llamafactory.memory import GIB, LongestBatch, Need, Shapes, sample_of, step_of, uncounted
from benchmarks.counts import config_of

from .conftest import preflight

pytestmark = pytest.mark.forward

#: A pair of 2800 x 2800 images with their comparison tokens and 64 tokens of text.
LARGEST = LongestBatch(tokens=20_264, patches=80_000, labels=64)


@pytest.fixture(scope="module")
def shapes():
    return Shapes(config_of("AD-Copilot", "7B"))


def settings(project_root, stage: int) -> dict:
    return yaml.safe_load((project_root / f"examples/train/7b/stage{stage}.yaml").read_text("utf-8"))


@pytest.mark.parametrize(("stage", "millions"), [(0, 63.8), (1, 166.6), (2, 211.2)])
def test_what_trains(shapes, project_root, stage, millions):
    """The numbers at the heads of the YAMLs; LoRA's include the queries, which train as they are."""
    trained = shapes.trained(settings(project_root, stage))
    assert sum(trained.values()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert (trained["tower"] > 0) == (stage == 2)
    assert (trained["language"] > 0) == (stage > 0)


@pytest.mark.parametrize(("stage", "least", "most"), [(0, 25, 32), (1, 26, 34), (2, 32, 42)])
def test_the_largest_pair_fits_a_gpu_of_80_gb(shapes, project_root, stage, least, most):
    need = shapes.need(settings(project_root, stage), LARGEST)
    assert least < need.total / GIB < most
    assert need.weights / GIB == pytest.approx(15.6, abs=0.1)


def test_without_checkpointing_it_does_not(shapes, project_root):
    for stage in (0, 1, 2):
        need = shapes.need({**settings(project_root, stage), "disable_gradient_checkpointing": True}, LARGEST)
        assert need.total / GIB > 100


def test_stage_0_keeps_of_a_token_what_it_says(shapes, project_root):
    """As counted over the whole language model in test_checkpointing.py: inputs of its layers, bytes a token."""
    more = LongestBatch(tokens=LARGEST.tokens + 1000, patches=LARGEST.patches, labels=LARGEST.labels)
    grown = [shapes.need(settings(project_root, 0), one).activations for one in (LARGEST, more)]
    layers = 28 * 3584 * 2
    assert layers <= (grown[1] - grown[0]) / 1000 <= layers + 0.25e6
    assert (grown[1] - grown[0]) / 1000 < 0.5e6


def test_a_sample(shapes):
    found = sample_of(shapes.config, 1000, [(280, 280), (280, 280)], batch=3)
    assert found == LongestBatch(tokens=3000, patches=3 * 800, labels=3 * (1000 - 200 - 200))
    assert str(Need(weights=GIB, training=0, activations=GIB / 2, logits=0)).startswith("1.5 GiB (1.0 weights + 0.0 ")


def test_gradients_stop_before_the_first_trained_part(shapes):
    """A tower that nobody trains keeps nothing, whatever its images."""
    small, large = (LongestBatch(tokens=1, patches=patches, labels=1) for patches in (8, 8_000_000))
    only_language = {"finetuning_type": "full"}
    kept = [shapes.need(only_language, one).activations for one in (small, large)]
    encoder = shapes.need(only_language, large).activations
    assert kept[1] == encoder  # the comparison encoder trains in all stages
    assert kept[1] / 8_000_000 < 0.4e6
    both = shapes.need({**only_language, "freeze_vision_tower": False}, large)
    assert both.activations > kept[1] + 32 * 1280 * 2 * 8_000_000 * 0.9


@pytest.mark.parametrize(
    ("zero", "gpus", "weights", "training"),
    [
        ({"stage": 2}, 1, 1, 1),
        ({"stage": 2}, 8, 1, 1 / 8),
        ({"stage": 3}, 8, 1 / 8, 1 / 8),
        ({"stage": 0}, 8, 1, 1),
        ({"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}}, 2, 1 / 2, 0),
        ({"stage": 3, "offload_param": {"device": "cpu"}}, 2, 0, 1 / 2),
    ],
)
def test_what_deepspeed_shares(shapes, project_root, tmp_path, zero, gpus, weights, training):
    written = {"zero_optimization": zero}
    (tmp_path / "zero.json").write_text(json.dumps(written))
    plain = {**settings(project_root, 1), "deepspeed": None}
    alone = shapes.need(plain, LARGEST, gpus=gpus)  # without DeepSpeed each has all
    for given in (str(tmp_path / "zero.json"), written):
        shared = shapes.need({**plain, "deepspeed": given}, LARGEST, gpus=gpus)
        assert shared.weights == pytest.approx(alone.weights * weights)
        assert shared.training == pytest.approx(alone.training * training)
        assert (shared.activations, shared.logits) == (alone.activations, alone.logits)


def test_four_bits_and_pure_bfloat16(shapes, project_root):
    plain = shapes.need(settings(project_root, 1), LARGEST)
    four = shapes.need({**settings(project_root, 1), "quantization_bit": 4}, LARGEST)
    assert (four.weights, four.training) == (plain.weights / 4, plain.training)
    pure = shapes.need({**settings(project_root, 1), "pure_bf16": True}, LARGEST)
    assert (pure.weights, pure.training) == (plain.weights, plain.training * 6 / 16)


@pytest.mark.parametrize(
    ("changes", "bits"),
    [
        ({"stage": "dpo"}, 16),
        ({"stage": "dpo", "finetuning_type": "lora"}, 0),  # the policy itself, its adapters turned off
        ({"stage": "dpo", "pref_loss": "simpo"}, 0),
        ({"stage": "dpo", "finetuning_type": "lora", "ref_model": "elsewhere"}, 16),
        ({"stage": "kto", "ref_model": "elsewhere", "ref_model_quantization_bit": 4}, 4),
        ({"stage": "kto"}, 16),
        ({"stage": "rm"}, 0),
        ({"stage": "sft", "ref_model": "elsewhere"}, 0),
    ],
)
def test_the_model_that_answers_are_compared_with(shapes, project_root, llamafactory, monkeypatch, changes, bits):
    from llamafactory.hparams import FinetuningArguments, ModelArguments
    from llamafactory.train import trainer_utils

    # LlamaFactory loads one, or none, by the same settings
    loaded = []
    monkeypatch.setattr(trainer_utils, "load_tokenizer", lambda model_args: {"tokenizer": None})
    monkeypatch.setattr(trainer_utils, "load_model", lambda _, model_args, *args, **kwargs: loaded.append(model_args))
    args = FinetuningArguments(**{"finetuning_type": "full", **changes})
    if args.use_ref_model or args.stage == "kto":  # as its workflows ask
        trainer_utils.create_ref_model(ModelArguments(model_name_or_path="m"), args)
    assert [model.quantization_bit or 16 for model in loaded] == [bits] * bool(bits)

    plain = {**settings(project_root, 1), "deepspeed": None, "finetuning_type": "full"}
    need = shapes.need({**plain, **changes}, LARGEST)
    assert need.reference == need.weights * bits / 16
    assert need.total == pytest.approx(need.weights + need.training + need.activations + need.logits + need.reference)
    assert (f"{need.reference / GIB:.1f} reference" in str(need)) == bool(bits)


def test_samples_of_other_stages(shapes):
    """Chosen and rejected are one batch with their images twice; an answer of KTO stands alone."""
    sizes = [(280, 280), (280, 280)]
    dpo, rm, kto = (
        sample_of(shapes.config, 1000, sizes, batch=3, step=step_of({"stage": name})) for name in ("dpo", "rm", "kto")
    )
    assert dpo == LongestBatch(tokens=6000, patches=6 * 800, labels=6000)
    assert rm == LongestBatch(tokens=6000, patches=6 * 800, labels=6 * (1000 - 200 - 200))
    assert kto == LongestBatch(tokens=3000, patches=3 * 800, labels=3000)


def test_the_head_of_a_reward_model_trains(shapes, project_root):
    plain = {**settings(project_root, 1), "deepspeed": None}
    sft, rm = (shapes.need({**plain, "stage": stage}, LARGEST) for stage in ("sft", "rm"))
    assert rm.training - sft.training == (3584 + 1) * 16
    assert rm.activations == sft.activations


class Head:
    """A model that is all vocabulary, and no module, so that torch counts it however often it is called.

    In bfloat16, as training computes: logits everywhere, or of labels and with their loss, as AD-Copilot trains.
    """

    words, width = 5000, 4

    def __init__(self):
        self.embeddings = torch.randn(10, self.width, dtype=torch.bfloat16)
        self.head = torch.randn(self.width, self.words, dtype=torch.bfloat16, requires_grad=True)

    def __call__(self, input_ids, labels=None, **_):
        from transformers.loss.loss_utils import ForCausalLMLoss

        states = self.embeddings[input_ids]
        logits = states @ self.head
        loss = None if labels is None else ForCausalLMLoss(logits, labels, self.words)
        return SimpleNamespace(logits=logits, loss=loss, hidden_states=[states])

    disable_adapter = nullcontext


def trainer_of(stage, **settings):
    """One of LlamaFactory's trainers with what a loss needs, and no more."""
    try:
        from llamafactory.train.dpo.trainer import CustomDPOTrainer
        from llamafactory.train.kto.trainer import CustomKTOTrainer
    except RuntimeError as error:  # trl 0.24 takes packages for installed that are not, beside transformers 5
        pytest.skip(f"trl's trainers cannot be imported here: {' '.join(str(error).split())[:200]}")

    trainer = object.__new__({"dpo": CustomDPOTrainer, "kto": CustomKTOTrainer}[stage])
    alone = settings.get("pref_loss") == "orpo"
    trainer.finetuning_args = SimpleNamespace(use_ref_model=not alone)
    trainer.loss_type = "orpo" if alone else {"dpo": "sigmoid", "kto": "kto"}[stage]
    trainer.ref_model, trainer.beta, trainer.ftx_gamma, trainer.ld_alpha = None, 0.1, 0.0, None
    trainer.bco_gemma = trainer.label_smoothing = 0.0
    trainer.reference_free, trainer.calculate_KL = False, True
    trainer.f_divergence_type, trainer.f_divergence_params = "reverse_kl", None
    trainer.desirable_weight = trainer.undesirable_weight = 1.0
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"), unwrap_model=lambda model: model, gather_for_metrics=lambda value: value
    )
    return trainer


def step_loss(settings, tokens):
    """The loss of one step of a stage, on a batch of four sequences of so many tokens."""
    ids, model = torch.arange(4 * tokens).reshape(4, tokens) % 10, Head()
    stage = settings["stage"]
    if stage == "sft":
        return model(ids, labels=ids).loss
    if stage == "rm":
        from llamafactory.train.rm.trainer import PairwiseTrainer
        from trl import AutoModelForCausalLMWithValueHead

        def head(states):  # as trl's, and no module
            return states.float() @ head.summary.weight

        head.summary = SimpleNamespace(weight=torch.randn(Head.width, 1, requires_grad=True))
        wrapped = SimpleNamespace(pretrained_model=model, is_peft_model=False, v_head=head)
        forward = AutoModelForCausalLMWithValueHead.forward
        batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
        return PairwiseTrainer.compute_loss(None, lambda **inputs: forward(wrapped, **inputs), batch)
    batch = {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}
    if stage == "kto":
        batch |= {f"kl_{name}": value.clone() for name, value in batch.items()}
        batch["kto_tags"] = torch.tensor([True, False, True, False])
    return trainer_of(**settings).get_batch_loss_metrics(model, batch)[0]


@pytest.mark.parametrize(
    "settings",
    [{"stage": "sft"}, {"stage": "dpo"}, {"stage": "dpo", "pref_loss": "orpo"}, {"stage": "kto"}, {"stage": "rm"}],
    ids=["sft", "dpo", "dpo without a reference", "kto", "rm"],
)
def test_bytes_of_a_logit_as_torch_counts_them(llamafactory, settings):
    """The most that LlamaFactory's own trainer keeps at once, where the vocabulary is all of the model."""
    from torch.distributed._tools.mem_tracker import MemTracker

    tokens, tracker = 200, MemTracker()
    with tracker:
        step_loss(settings, tokens).backward()
    found = sum(one["Total"] for one in tracker.get_tracker_snapshot("peak").values())
    assert found / (4 * tokens * Head.words) == pytest.approx(step_of(settings).of_logit, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finetuning_type": "freeze"}, "finetuning_type: freeze"),
        ({"use_galore": True}, "use_galore: True"),
        ({"fsdp": "full_shard"}, "fsdp: full_shard"),
        ({"deepspeed": "nowhere.json"}, "deepspeed: nowhere.json (no JSON file with zero_optimization)"),
        ({"use_galore": False, "deepspeed": None}, None),
        ({}, None),
    ],
)
def test_settings_under_which_nothing_is_said(project_root, changes, said, monkeypatch):
    monkeypatch.chdir(project_root)
    assert uncounted({**settings(project_root, 1), **changes}) == said


def test_preflight_refuses(llamafactory, train_yaml, capsys):
    path = train_yaml(finetuning_type="lora", per_device_train_batch_size=64, bf16=False, cutoff_len=2048)

    def run(*more):
        return preflight(path, *more)

    assert run() == 0
    assert "GiB (0.0 weights + 0.0 training + " in capsys.readouterr().out
    assert run("--gpu-memory", "80") == 0
    assert "for batches of 64 with" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"more than --gpu-memory 0\.02; per_device_train_batch_size=\d+ would") as e:
        run("--gpu-memory", "0.02")
    remedy = str(e.value).rpartition("; ")[2].split()[0]
    assert run(remedy, "--gpu-memory", "0.02") == 0
    with pytest.raises(UserError, match="take a larger GPU"):
        run("--gpu-memory", "0.0001")
    with pytest.raises(UserError, match="disable_gradient_checkpointing=false would lower it"):
        run("disable_gradient_checkpointing=true", "--gpu-memory", "0.02")
    with pytest.raises(
        UserError, match="--gpu-memory: memory is not counted with finetuning_type: freeze; leave the option"
    ):
        run("finetuning_type=freeze", "--gpu-memory", "80")
    assert run("finetuning_type=freeze") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "memory: not counted with finetuning_type: freeze"
    for number in ("nan", "0", "-1", "inf"):
        with pytest.raises(UserError, match=r"--gpu-memory .*: expected GiB, more than 0"):
            run("--gpu-memory", number)
    with pytest.raises(UserError, match="--gpus 0: expected 1 or more"):
        run("--gpus", "0")
    assert run("--gpus", "4") == 0
    assert "memory of each of 4 GPUs in bfloat16" in capsys.readouterr().out
    tokens = 64 * 511
    assert run("neat_packing=true", "cutoff_len=512") == 0  # a packed sample is as long as it may be
    assert f"with {tokens:,} tokens" in capsys.readouterr().out


def test_nothing_is_computed(shapes):
    assert all(type(weight.data).__name__ == "FakeTensor" for weight in shapes.model.parameters())
    assert torch.get_default_dtype() == torch.float32
