"""A model for the line's tests."""

from ..inspect.conftest import deciding_dir, speaking_dir  # noqa: F401 - fixtures
