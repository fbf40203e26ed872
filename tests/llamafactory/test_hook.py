"""The hook in every kind of process that LlamaFactory starts, and its absence everywhere else."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.forward

KNOWS = "from llamafactory.data.template import TEMPLATES; print('adcopilot' in TEMPLATES)"


def said(code: str) -> str:
    """What code says in a fresh interpreter, as a user starts one: nothing of this package imported beforehand."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def said_after_torch(nursery):
    """The same where torch and transformers have been imported, under this environment, and LlamaFactory has not."""
    return lambda code, **environment: nursery.said(code=code, env=environment)


def test_plain_process_knows_all_parts():
    """Model classes, template, parts for the freeze flags, data checks: without a word about this package."""
    code = """
import llamafactory.train.tuner
from llamafactory.data import loader, template
from llamafactory.hparams import parser
from llamafactory.extras import constants
from llamafactory.model import loader as model_loader
from llamafactory.model.model_utils.visual import COMPOSITE_MODELS
from transformers import AutoConfig, AutoModelForImageTextToText
config = AutoConfig.for_model("adcopilot")
print([
    "adcopilot" in template.TEMPLATES,
    "adcopilot" in COMPOSITE_MODELS,
    "adcopilot" in constants.MROPE_MODELS,
    "AD-Copilot" in constants.SUPPORTED_MODELS,
    type(config) in AutoModelForImageTextToText._model_mapping,
    hasattr(loader._get_preprocessed_dataset, "adcopilot"),
    hasattr(model_loader.patch_config, "adcopilot"),
    hasattr(model_loader.patch_tokenizer, "adcopilot"),
    hasattr(model_loader.patch_processor, "adcopilot"),
    hasattr(template.Template.fix_special_tokens, "adcopilot"),
    hasattr(parser._verify_model_args, "adcopilot"),
])
"""
    assert said(code) == str([True] * 11)


def test_off_switch(said_after_torch):
    """LlamaFactory as it comes: nothing of ours registered, not even imported."""
    code = f"""
import sys
{KNOWS}
import llamafactory.data.loader as loader
imported = sorted(name for name in sys.modules if name.startswith("adcopilot."))
print([hasattr(loader.get_dataset, "adcopilot"), imported])
"""
    found = said_after_torch(code, ADCOPILOT_PLUGIN="0")
    # torch's loading of entry points imports the hook itself, which then does nothing
    assert found == str([False, ["adcopilot.llamafactory", "adcopilot.llamafactory.hook"]])


@pytest.mark.parametrize(("value", "on"), [("0", False), ("off", False), ("False", False), ("1", True), (None, True)])
def test_off_switch_values(monkeypatch, value, on):
    from adcopilot.llamafactory import hook

    monkeypatch.delenv("ADCOPILOT_PLUGIN", raising=False)
    if value is not None:
        monkeypatch.setenv("ADCOPILOT_PLUGIN", value)
    assert hook.is_switched_on() is on


def test_registering_by_hand_where_torch_loads_no_entry_points(said_after_torch):
    assert said_after_torch(KNOWS, TORCH_DEVICE_BACKEND_AUTOLOAD="0") == "False"
    code = f"import adcopilot.llamafactory; adcopilot.llamafactory.register(); {KNOWS}"
    assert said_after_torch(code, TORCH_DEVICE_BACKEND_AUTOLOAD="0") == "True"


def test_importing_torch_imports_neither_llamafactory_nor_transformers():
    code = """
import sys, time
import torch
from adcopilot.llamafactory import hook
started = time.thread_time()
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder) is not hook._Finder]
hook.install()
took = time.thread_time() - started
heavy = ("llamafactory", "transformers", "datasets", "PIL", "adcopilot.model")
print([[name for name in heavy if name in sys.modules], took < 1e-3])
"""
    assert said(code) == "[[], True]"


def test_other_templates_are_the_same_with_and_without(said_after_torch):
    code = """
import hashlib
from llamafactory.data.template import TEMPLATES
from llamafactory.data.mm_plugin import PLUGINS
from llamafactory.extras import constants
from llamafactory.model.model_utils.visual import COMPOSITE_MODELS
ours = ("adcopilot", "AD-Copilot", "AD-Copilot-Thinking")
tables = (TEMPLATES, PLUGINS, COMPOSITE_MODELS, constants.SUPPORTED_MODELS, constants.DEFAULT_TEMPLATE)
text = repr([[(name, table[name]) for name in table if name not in ours] for table in tables])
names = (constants.MROPE_MODELS, constants.MULTIMODAL_SUPPORTED_MODELS)
text += repr([sorted(set(one) - set(ours)) for one in names])
print(len(TEMPLATES) > 50, hashlib.sha256(text.encode()).hexdigest())
"""
    with_plugin, without = said_after_torch(code), said_after_torch(code, ADCOPILOT_PLUGIN="0")
    assert with_plugin == without
    assert with_plugin.startswith("True ")


def test_torchrun_workers(tmp_path):
    """LlamaFactory starts `torchrun … launcher.py`: fresh interpreters that never import this package themselves."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "from llamafactory.data.template import TEMPLATES\n"
        "rank = os.environ['RANK']\n"
        "pathlib.Path(sys.argv[1], rank).write_text(str('adcopilot' in TEMPLATES))\n",
        "utf-8",
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run([*command, script, tmp_path], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert [(tmp_path / rank).read_text("utf-8") for rank in "01"] == ["True", "True"]


def test_spawned_worker_unpickles_the_template(llamafactory):
    """A spawned worker of `datasets` gets the template pickled, so the plugin's class is the first that it imports."""
    import pickle

    from llamafactory.data.template import TEMPLATES

    code = f"""
import multiprocessing, pickle
data = {pickle.dumps(TEMPLATES["adcopilot"])!r}

def work(data):
    template = pickle.loads(data)
    from llamafactory.data.template import TEMPLATES
    return type(template.mm_plugin).__name__, "adcopilot" in TEMPLATES, template == TEMPLATES["adcopilot"]

print(*work(data))
"""
    assert said(code) == "AdCopilotPlugin True True"


def test_datasets_map_with_spawned_processes(nursery, adcopilot_dir, image_files, tmp_path):
    """The same through `datasets` itself, which LlamaFactory tokenises with."""
    script = tmp_path / "main.py"
    script.write_text(
        f"""
import multiprocess, sys

def main():
    multiprocess.set_start_method("spawn")
    from datasets import Dataset
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.processor import SupervisedDatasetProcessor
    from llamafactory.hparams import DataArguments, ModelArguments
    from llamafactory.model import load_tokenizer
    loaded = load_tokenizer(ModelArguments(model_name_or_path={str(adcopilot_dir)!r}))
    data_args = DataArguments(template="adcopilot", cutoff_len=500)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
    encoder = SupervisedDatasetProcessor(template=template, data_args=data_args, **loaded)
    row = {{
        "_prompt": [{{"role": "user", "content": "<image><image>Same?"}}],
        "_response": [{{"role": "assistant", "content": "No."}}],
        "_system": "", "_tools": "", "_images": {image_files[:2]!r}, "_videos": None, "_audios": None,
    }}
    data = Dataset.from_list([row] * 4)
    encoded = data.map(encoder.preprocess_dataset, batched=True, num_proc=2, remove_columns=data.column_names)
    ids = encoded["input_ids"]
    print(len(ids), [one.count(loaded["processor"].comparison_token_id) for one in ids])

if __name__ == "__main__":
    main()
""",
        "utf-8",
    )
    # The workers are fresh interpreters, which import the script by the name of the file that runs as `__main__`.
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    assert nursery.said(code=code) == "4 [10, 10, 10, 10]"


def test_a_users_mistake_ends_in_one_line(nursery, adcopilot_dir, tmp_path):
    """Through the stock command: no traceback, and an exit code that says failure."""
    code = f"""
import sys
sys.argv = ["llamafactory-cli", "train", "--stage", "sft", "--do_train", "--template", "adcopilot", "--use_cpu",
    "--model_name_or_path", {str(adcopilot_dir)!r}, "--dataset", "parts", "--dataset_dir", {str(tmp_path)!r},
    "--output_dir", {str(tmp_path / "out")!r}]
from llamafactory.cli import main
main()
"""
    result = nursery.run(code=code)
    assert result.returncode == 1
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"error: dataset_dir {tmp_path}: no dataset_info.json there")
    assert "Traceback" not in result.stderr
