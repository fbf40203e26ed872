"""How near an answer is to a reference text: S-BERT and BERTScore, by the packages of those names.

Both compare meaning by a language model, and their numbers depend on which: a result without its model's name says
little. So the name, the layer and the packages' versions are part of every result (`describe`).

A model is a folder or a name on the Hugging Face hub. An empty answer scores 0 in both, whatever the models would say
of an empty text.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot.errors import UserError, one_line
from adcopilot.jsonl import file_digest

__all__ = ["BERTSCORE_MODEL", "SBERT_MODEL", "BertScore", "SBert", "TextScorer"]

#: Defaults that know English and Chinese. Which ones the published tables used is not known.
SBERT_MODEL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
BERTSCORE_MODEL = "bert-base-multilingual-cased"

#: bert-score reads a tokenizer's limit as a count of positions; a tokenizer without one says a number beyond all.
_LONGEST_TOKENS = 512
#: Texts, or pairs of them, at once.
_BATCH_SIZE = 64


class TextScorer:
    """Scores answers against references; a subclass is a package's.

    Attributes:
        name: the column's title.
        package: its version belongs to the numbers.
        model: folder, or name on the hub.
        settings: what else they depend on.
    """

    name: str
    package: str
    model: str
    settings: Mapping[str, Any] = {}

    def score(self, answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """One score for each pair, 0 to 1 for usual texts (a cosine may be slightly negative)."""
        pairs = list(zip(answers, references, strict=True))
        full = [bool(answer.strip() and reference.strip()) for answer, reference in pairs]
        known = [pair for pair, there in zip(pairs, full, strict=True) if there]
        scores = iter(self._scores(*map(list, zip(*known, strict=True))) if known else ())
        return [float(next(scores)) if there else 0.0 for there in full]

    def _scores(self, answers: list[str], references: list[str]) -> Iterable[float]:
        """Of texts that are not empty, one pair at least."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on: model, settings and package. JSON values."""
        return {**_identity(self.model), **self.settings, self.package: importlib.metadata.version(self.package)}


class SBert(TextScorer):
    """Cosine of two sentence embeddings, by sentence-transformers.

    Args:
        model: folder, or name on the hub.
        device: `cpu`, `cuda:0`, …; what the package chooses when None.

    Raises:
        UserError: the model cannot be loaded.
        ModuleNotFoundError: sentence-transformers is not installed.
    """

    name = "S-BERT"
    package = "sentence-transformers"

    def __init__(self, *, model: str = SBERT_MODEL, device: str | None = None) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = model
        self._encoder = _loaded(
            lambda: SentenceTransformer(model, device=device), model=model, option="--sbert", what="sentence encoder"
        )

    def _scores(self, answers: list[str], references: list[str]) -> Iterable[float]:
        """Each different text is embedded once."""
        texts = list(dict.fromkeys(text for pair in zip(answers, references, strict=True) for text in pair))
        vectors = self._encoder.encode(
            texts, batch_size=_BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
        )
        of = dict(zip(texts, vectors, strict=True))
        return [of[answer] @ of[reference] for answer, reference in zip(answers, references, strict=True)]


class BertScore(TextScorer):
    """F1 of greedily matched token embeddings, by bert-score; not rescaled with a baseline.

    Args:
        model: folder, or name on the hub.
        layer: the layer whose states are compared. None: what bert-score found best for a model it knows; needed for
            any other.
        device: as for `SBert`.

    Raises:
        UserError: the model cannot be loaded, or `layer` is missing or more than the model has.
        ModuleNotFoundError: bert-score is not installed.
    """

    name = "BERTScore"
    package = "bert-score"

    def __init__(self, *, model: str = BERTSCORE_MODEL, layer: int | None = None, device: str | None = None) -> None:
        from bert_score import BERTScorer
        from bert_score.utils import model2layers

        if layer is None and model not in model2layers:
            raise UserError(
                f"--bertscore {model}: bert-score knows no best layer of this model; say which with "
                "--bertscore-layer (of a 12-layer BERT, 9 is common)"
            )
        self.model = model
        self.settings = {"layer": model2layers[model] if layer is None else layer, "rescaled": False}
        self._scorer = _loaded(
            lambda: BERTScorer(
                model_type=model, num_layers=self.settings["layer"], device=device, use_fast_tokenizer=True
            ),
            model=model,
            option="--bertscore",
            what="encoder",
        )
        tokenizer = self._scorer._tokenizer
        tokenizer.model_max_length = min(tokenizer.model_max_length, _LONGEST_TOKENS)

    def _scores(self, answers: list[str], references: list[str]) -> Iterable[float]:
        return self._scorer.score(answers, references, batch_size=_BATCH_SIZE)[-1].tolist()


def _loaded(load: Callable[[], Any], *, model: str, option: str, what: str) -> Any:
    # transformers tells of every weight that an encoder leaves unused.
    chatter = logging.getLogger("transformers")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        return load()
    except (OSError, ValueError, KeyError, AssertionError) as error:
        reason = one_line(error)
        raise UserError(
            f"{option} {model}: no {what} could be loaded ({reason}); name a folder or a model of the Hugging Face "
            f"hub, or leave these columns out with `{option} none`"
        ) from None
    finally:
        chatter.setLevel(level)


def _identity(model: str) -> dict[str, str]:
    """A model's name; of a folder its own name, wherever it lies, and what its weights are."""
    folder = Path(model)
    if not folder.is_dir():
        return {"model": model}
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")], key=lambda path: path.stat().st_size)
    digest = {"weights_sha256": file_digest(weights[-1])} if weights else {}
    return {"model": folder.resolve().name, **digest}
