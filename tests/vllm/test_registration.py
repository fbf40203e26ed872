"""The entry point: found by vLLM, and loud where it does not fit. Needs no vLLM."""

import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

from adcopilot.vllm import SUPPORTED, register

from ..helpers.refusals import refused

SETUP = Path(__file__).resolve().parents[2] / "setup.py"


class FakeRegistry:
    registered = {}

    @classmethod
    def register_model(cls, name: str, place: str) -> None:
        cls.registered[name] = place


@pytest.fixture
def vllm_of(monkeypatch):
    """Put a stand-in for vLLM of some version in its place; all that `register` looks at."""

    def put(version: str) -> None:
        module = ModuleType("vllm")
        module.__version__ = version
        module.ModelRegistry = FakeRegistry
        monkeypatch.setitem(sys.modules, "vllm", module)
        monkeypatch.setattr(FakeRegistry, "registered", {})

    return put


def test_vllm_finds_the_entry_point():
    (point,) = entry_points(group="vllm.general_plugins", name="adcopilot")
    assert point.load() is register


@pytest.mark.parametrize("version", ["0.32.0", "0.32.1", "0.32.0+cpu", "0.33.0"])
def test_registers_the_model_by_name(vllm_of, version):
    from transformers import AutoConfig

    vllm_of(version)
    register()
    register()
    place = "adcopilot.vllm.model:AdCopilotForConditionalGeneration"
    assert FakeRegistry.registered == {"AdCopilotForConditionalGeneration": place}
    assert AutoConfig.for_model("adcopilot").model_type == "adcopilot"


@pytest.mark.parametrize("version", ["0.20.2", "0.31.0", "1.32.0", "0.34.0+cpu"])
def test_another_line_of_vllm_is_refused_in_one_line(vllm_of, version):
    vllm_of(version)
    with refused(re.escape(version)) as error:
        register()
    extra = re.search(r'"serve": \["(.+)"\]', SETUP.read_text("utf-8")).group(1)
    assert f"`{extra}`" in str(error.value)
    assert FakeRegistry.registered == {}


def test_the_extra_admits_what_is_supported():
    from packaging.specifiers import SpecifierSet

    extra = re.search(r'"serve": \["vllm(.+)"\]', SETUP.read_text("utf-8")).group(1)
    lines = [f"{major}.{minor}.0" for major, minor in SUPPORTED]
    beyond = [f"0.{SUPPORTED[0][1] - 1}.9", f"0.{SUPPORTED[-1][1] + 1}.0"]
    assert list(SpecifierSet(extra).filter([*lines, *beyond])) == lines
