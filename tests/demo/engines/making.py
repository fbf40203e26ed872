"""Engines of tests: in front of the endpoint that says what it is told, and without a model."""

from adcopilot.anomaly_map.comparing import MapSettings
from adcopilot.answering.api import ApiBackend
from adcopilot.demo.engines.endpoint import EndpointEngine
from adcopilot.demo.engines.maps import MapEngine
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.map_inspector import MapInspector
from adcopilot.prompts import INSPECT_QUESTION


def endpoint_engine(stub, *, maps=None, **options) -> EndpointEngine:
    """Asks the stub, once; `options` are the backend's."""
    settings = {"option_logprobs": True, "attempts": 1, "first_wait": 0.01, "timeout": 60, "give_up": 2, **options}
    backend = ApiBackend(base_url=stub.url, model="ad-copilot", **settings)
    return EndpointEngine(backend=backend, question=INSPECT_QUESTION, judge=Judge(), max_new_tokens=50, maps=maps)


def map_engine(judge=Judge(source="map")) -> MapEngine:  # noqa: B008 - it is frozen
    """The map of pixels alone."""
    return MapEngine(inspector=MapInspector(map=MapSettings(), judge=judge), title="the anomaly map")
