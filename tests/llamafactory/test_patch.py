"""The patch for forks: it applies to LLaMA-Factory 0.9.5, and brings AD-Copilot in where the hook does not run."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.forward

WHERE_AND_WHETHER = """
import llamafactory, sys, torch
from adcopilot.llamafactory import hook
hooked = any(type(finder) is hook._Finder for finder in sys.meta_path)  # registering waits for modules by it, too
from llamafactory.data import TEMPLATES
print(llamafactory.__file__, hooked, "adcopilot" in TEMPLATES)
"""


@pytest.fixture(scope="module")
def fork(tmp_path_factory, project_root) -> Path:
    """A folder whose `src/llamafactory` is the installed package with the patch applied."""
    if shutil.which("git") is None:
        pytest.skip("needs git to apply the patch")
    folder = tmp_path_factory.mktemp("fork")
    installed = Path(importlib.util.find_spec("llamafactory").origin).parent
    shutil.copytree(installed, folder / "src/llamafactory", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    patch = project_root / "patches/llamafactory-0.9.5-plugins.patch"
    subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)
    return folder


@pytest.fixture
def run(nursery, fork):
    """The words of the last line that code prints, with the patched package first on the path."""

    def words(code: str, **environment: str) -> list[str]:
        path = os.pathsep.join(filter(None, [str(fork / "src"), os.environ.get("PYTHONPATH")]))
        return nursery.said(code=code, cwd=fork, env={"PYTHONPATH": path, **environment}).split()

    return words


NO_HOOK = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}


def test_patched_without_hook(run, fork):
    file, hooked, known = run(WHERE_AND_WHETHER, **NO_HOOK)
    assert Path(file) == fork / "src/llamafactory/__init__.py"
    assert (hooked, known) == ("False", "True")


def test_all_parts_are_registered_whichever_package_comes_first(run):
    for first in ("llamafactory.model", "llamafactory.train.tuner"):
        code = f"""
import {first}
from llamafactory.data import TEMPLATES, loader
from llamafactory.model import loader as model_loader
from llamafactory.model.model_utils.visual import COMPOSITE_MODELS
from llamafactory.extras.constants import SUPPORTED_MODELS
print("adcopilot" in TEMPLATES, "adcopilot" in COMPOSITE_MODELS, "AD-Copilot" in SUPPORTED_MODELS,
      hasattr(loader.get_dataset, "adcopilot"), hasattr(model_loader.patch_config, "adcopilot"))
"""
        assert run(code, **NO_HOOK) == ["True"] * 5


def test_child_processes(run, tmp_path):
    """A subprocess as LlamaBoard starts it, and a spawned worker that gets the template pickled."""
    code = f"""
import subprocess, sys
print(subprocess.run([sys.executable, "-c", {WHERE_AND_WHETHER!r}], capture_output=True, text=True, check=True).stdout)
"""
    assert run(code, **NO_HOOK)[1:] == ["False", "True"]

    path = tmp_path / "template.pickle"
    dump = f"""
import pickle
from llamafactory.data import TEMPLATES
pickle.dump(TEMPLATES["adcopilot"], open({str(path)!r}, "wb"))
print("done")
"""
    load = f"""
import pickle
template = pickle.load(open({str(path)!r}, "rb"))
from llamafactory.data import TEMPLATES
print(template == TEMPLATES["adcopilot"])
"""
    assert run(dump, **NO_HOOK) == ["done"]
    assert run(load, **NO_HOOK) == ["True"]


def test_hook_and_patch_together(run):
    assert run(WHERE_AND_WHETHER)[1:] == ["True", "True"]


def test_switches(run):
    assert run(WHERE_AND_WHETHER, ADCOPILOT_PLUGIN="0")[1:] == ["False", "False"]
    assert run(WHERE_AND_WHETHER, LLAMAFACTORY_PLUGINS="", **NO_HOOK)[1:] == ["False", "False"]
    assert run(WHERE_AND_WHETHER, LLAMAFACTORY_PLUGINS="other, adcopilot", **NO_HOOK)[1:] == ["False", "True"]
