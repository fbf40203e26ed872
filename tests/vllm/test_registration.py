"""The entry point: found by vLLM, and loud where it does not fit. Needs no vLLM."""

import sys
from importlib.metadata import entry_points
from types import ModuleType

import pytest

from adcopilot.errors import UserError
from adcopilot.vllm import register


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


@pytest.mark.parametrize("version", ["0.20.0", "0.20.2", "0.20.2+cpu"])
def test_registers_the_model_by_name(vllm_of, version):
    from transformers import AutoConfig

    vllm_of(version)
    register()
    register()
    place = "adcopilot.vllm.model:AdCopilotForConditionalGeneration"
    assert FakeRegistry.registered == {"AdCopilotForConditionalGeneration": place}
    assert AutoConfig.for_model("adcopilot").model_type == "adcopilot"


@pytest.mark.parametrize("version", ["0.19.1", "0.21.0", "1.20.0", "0.25.1+cpu"])
def test_another_line_of_vllm_is_refused_in_one_line(vllm_of, version):
    vllm_of(version)
    with pytest.raises(UserError) as error:
        register()
    assert version in str(error.value)
    assert "0.20" in str(error.value)
    assert "\n" not in str(error.value)
    assert FakeRegistry.registered == {}
