"""A model for the maps' tests."""

from ..inspect.conftest import inspector, speaking_dir  # noqa: F401 - fixtures
