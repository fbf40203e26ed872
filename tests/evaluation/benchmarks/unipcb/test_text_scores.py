"""S-BERT and BERTScore with a real model that needs no download."""

import numpy as np
import pytest

from adcopilot.errors import UserError
from adcopilot.evaluation.benchmarks.unipcb.text_scores import BertScore, SBert

ANSWERS = ["A scratch on the board.", "", "The weather is fine today.", "缺焊", "A scratch on the board."]
REFERENCES = ["The board has a scratch.", "x", "A resistor is missing.", "缺焊", "A scratch on the board."]


def test_sbert_is_the_packages_cosine(sentence_model):
    from sentence_transformers import SentenceTransformer, util

    scorer = SBert(model=sentence_model, device="cpu")
    found = scorer.score(ANSWERS, REFERENCES)
    model = SentenceTransformer(sentence_model, device="cpu")
    wanted = util.pairwise_cos_sim(model.encode(ANSWERS), model.encode(REFERENCES)).tolist()
    wanted[1] = 0.0  # an empty answer
    assert found == pytest.approx(wanted, abs=1e-5)
    assert found[0] > 0.85 > 0.3 > found[2]
    assert found[3:] == pytest.approx([1.0, 1.0], abs=1e-5)


def test_a_model_that_does_not_normalise_its_embeddings(sentence_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    whole = SentenceTransformer(sentence_model, device="cpu")
    SentenceTransformer(modules=[whole[0], whole[1]]).save(str(tmp_path / "bare"))
    found = SBert(model=str(tmp_path / "bare"), device="cpu").score(ANSWERS, REFERENCES)
    assert found == pytest.approx(SBert(model=sentence_model, device="cpu").score(ANSWERS, REFERENCES), abs=1e-5)


def test_bertscore_is_the_packages_f1(sentence_model):
    import bert_score

    found = BertScore(model=sentence_model, layer=4, device="cpu").score(ANSWERS, REFERENCES)
    *_, wanted = bert_score.score(ANSWERS, REFERENCES, model_type=sentence_model, num_layers=4, device="cpu")
    wanted = wanted.tolist()
    wanted[1] = 0.0
    assert found == pytest.approx(wanted, abs=1e-4)
    assert found[4] > found[0] > found[2] > 0
    assert not np.allclose(found, BertScore(model=sentence_model, layer=2, device="cpu").score(ANSWERS, REFERENCES))


def test_an_answer_longer_than_the_model_reads(sentence_model):
    long = "word " * 3000
    assert BertScore(model=sentence_model, layer=4, device="cpu").score([long], [long]) == pytest.approx(
        [1.0], abs=1e-4
    )
    assert SBert(model=sentence_model, device="cpu").score([long], [long]) == pytest.approx([1.0], abs=1e-4)


def test_nothing_to_score(sentence_model):
    for scorer in (SBert(model=sentence_model, device="cpu"), BertScore(model=sentence_model, layer=4, device="cpu")):
        assert scorer.score([], []) == []
        assert scorer.score(["", "a"], ["b", " "]) == [0.0, 0.0]


def test_results_say_which_model(sentence_model, tmp_path):
    import shutil

    elsewhere = tmp_path / "somewhere" / "model"
    shutil.copytree(sentence_model, elsewhere)
    found = SBert(model=sentence_model, device="cpu").describe()
    assert found == SBert(model=str(elsewhere), device="cpu").describe(), "where the folder lies does not matter"
    assert found["model"] == "model"
    assert len(found["weights_sha256"]) == 64
    described = BertScore(model=sentence_model, layer=3, device="cpu").describe()
    assert (described["layer"], described["rescaled"]) == (3, False)
    assert {"bert-score", "weights_sha256"} <= set(described)


def test_models_that_are_not_there(sentence_model, tmp_path):
    with pytest.raises(UserError, match=r"--sbert .*nowhere: no sentence encoder could be loaded .*--sbert none"):
        SBert(model=str(tmp_path / "nowhere"))
    with pytest.raises(
        UserError, match=r"--bertscore no-such-model: bert-score knows no best layer.*--bertscore-layer"
    ):
        BertScore(model="no-such-model")
    with pytest.raises(UserError, match="--bertscore no/such-model: no encoder could be loaded"):
        BertScore(model="no/such-model", layer=2)
    with pytest.raises(UserError, match="num_layers should be between 0 and 6"):
        BertScore(model=sentence_model, layer=40)
