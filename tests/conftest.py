"""Settings and fixtures that every test shares. Heavy imports stay inside the fixtures: many tests need no torch."""

import os
import random
import sys
from pathlib import Path

import pytest

# Before anything imports torch, transformers or tokenizers. Tests never reach for a hub; one thread a process, because
# the suite itself runs in several; no telemetry from gradio; and no pool of torch's compiler processes, which costs
# every process that imports DeepSpeed three seconds and serves no test.
for _name, _value in {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # an environment that runs only tests without it
    pass
else:
    # An example has by default a fifth of a second of the clock's time, which a busy machine may not give it.
    patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("patient", parent=settings.default, **patient)
    settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]

#: Files of a quarter of a minute and more on one core, the longest first: a worker that begins such a file at the end
#: leaves the other without work. (Those of few tests would come last, by xdist's own order.)
LONGEST = (
    "e2e/test_tutorials.py",
    "chat_ad/adapt/test_adapt.py",
    "training/test_deepspeed.py",
    "grpo/test_deepspeed.py",
    "line/test_aligning.py",
    "line/test_calibrate.py",
    "line/test_belonging.py",
    "e2e/test_deeppcb_chain.py",
    "webui/test_llamaboard.py",
    "evaluation/benchmarks/mmad/test_mmad_command.py",
    "cli/test_cli.py",
    "training/test_queries.py",
    "llamafactory/test_hook.py",
    "chat_ad/pipeline/test_build_killed.py",
    "demo/browser/test_page_maps.py",
    "webui/test_chat.py",
    "demo/browser/test_looks.py",
    "chat_ad/report/test_report.py",
    "docs/test_site.py",
    "inspect/test_notebook.py",
    "demo/browser/test_page.py",
    "e2e/test_build_chain.py",
    "grpo/test_resuming.py",
    "grpo/test_training.py",
    "golden/test_build.py",
    "golden/test_eval.py",
    "golden/test_models.py",
    "demo/browser/test_belonging.py",
    "demo/browser/test_many.py",
    "chat_ad/test_steps.py",
    "chat_ad/pipeline/test_build.py",
    "chat_ad/pipeline/test_build_inputs.py",
    "chat_ad/report/test_gallery.py",
    "chat_ad/generation/test_endpoint.py",
    "chat_ad/generation/test_annotations.py",
    "llamafactory/test_gate.py",
    "evaluation/backends/test_transformers_backend.py",
    "evaluation/benchmarks/captions/test_captions_scorers.py",
    "demo/test_server.py",
    "inspect/test_folder_runs.py",
)


def pytest_collection_modifyitems(config, items):
    """Where several processes share the files, the longest come first."""
    if hasattr(config, "workerinput"):
        ranks = {ROOT / "tests" / name: rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(autouse=True)
def _fixed_seeds():
    """The same random numbers in each test, whatever ran before it in the same process."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def run(capsys):
    """Runs `adcopilot …` in this process: (exit code, stdout, stderr)."""
    from adcopilot.cli import main

    def run(*words) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def refusal(run):
    """Runs a command that ends with 2, and says nothing but one line: that line."""

    def refusal(*words) -> str:
        code, out, err = run(*words)
        lines = [line for line in err.splitlines() if line and "Loading" not in line]  # transformers' bar
        assert (code, out, len(lines)) == (2, "", 1), err
        assert lines[0].startswith("error: ")
        return lines[0]

    return refusal


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The top of the checkout."""
    return ROOT


def _shared(relative: str) -> Path:
    """A path in the folder of shared reference data, which lies beside the checkout or where ADCOPILOT_SHARED says.

    The data is not part of this repository, so a test that needs it is skipped elsewhere, with the reason.
    """
    folder = Path(os.environ.get("ADCOPILOT_SHARED") or ROOT.parent / "shared")
    path = folder / relative
    if not path.exists():
        pytest.skip(f"needs {relative} in {folder}; set ADCOPILOT_SHARED to the folder that holds it")
    return path


@pytest.fixture(scope="session")
def deeppcb_root() -> Path:
    """The public DeepPCB dataset in its own layout (`PCBData/…` or `groupNNNNN/…`)."""
    return _shared("data/deeppcb")


@pytest.fixture(scope="session")
def mmad_root() -> Path:
    """MMAD's questions and published answer files."""
    return _shared("mmad")


@pytest.fixture(scope="session")
def qwen_tokenizer_dir() -> Path:
    """The real Qwen2.5 tokenizer, for tests that need true token ids."""
    return _shared("qwen2.5-tokenizer")


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    """Starts processes that need not import torch and transformers themselves."""
    from .helpers.nursery import Nursery

    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def qwen_base_dir(tmp_path_factory) -> Path:
    """A small random Qwen2.5-VL checkpoint with tokenizer and processor, in transformers' own format."""
    from adcopilot.sample.tiny_base import build_untrained

    folder = tmp_path_factory.mktemp("qwen_base")
    build_untrained(folder, texts=20)
    return folder


@pytest.fixture(scope="session")
def adcopilot_dir(qwen_base_dir, tmp_path_factory) -> Path:
    """The same as an AD-Copilot checkpoint with 5 comparison tokens and rotary positions in the encoder."""
    from adcopilot.model.conversion import convert_base

    folder = tmp_path_factory.mktemp("adcopilot") / "model"
    convert_base(base=qwen_base_dir, output=folder, num_comparison_tokens=5, comparison_position_encoding="rope2d")
    return folder
