"""How near an answer is to a reference text: S-BERT and BERTScore, by the packages of those names.

Both compare meaning by a language model, and their numbers depend on which: a result without its model's name says
little. So the name, the layer and the packages' versions are part of every result (`describe`).

A model is a folder or a name on the Hugging Face hub. An empty answer scores 0 in both, whatever the models would say
of an empty text.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from adcopilot.errors import UserError, one_line
from adcopilot.jsonl import file_digest

__all__ = ["BERTSCORE_MODEL", "SBERT_MODEL", "BertScore", "SBert", "TextScorer"]

#: Defaults that know English and Chinese. Which ones the published tables used is not known.
SBERT_MODEL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
BERTSCORE_MODEL = "bert-base-multilingual-cased"

#: bert-score reads a tokenizer's limit as a count of positions; a tokenizer without one says a number beyond all.
_LONGEST_TOKENS = 512


class TextScorer(Protocol):
    """Scores answers against references; `name` is the column's title."""

    name: str

    def score(self, answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """One score for each pair, 0 to 1 for usual texts (a cosine may be slightly negative)."""

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on. JSON values."""


class SBert:
    """Cosine of two sentence embeddings, by sentence-transformers.

    Args:
        model: folder, or name on the hub.
        device: `cpu`, `cuda:0`, …; what the package chooses when None.
        batch_size: texts embedded at once.

    Raises:
        UserError: the model cannot be loaded.
        ModuleNotFoundError: sentence-transformers is not installed.
    """

    name = "S-BERT"

    def __init__(self, *, model: str = SBERT_MODEL, device: str | None = None, batch_size: int = 64) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = model
        self._batch_size = batch_size
        self._encoder = _loaded(
            lambda: SentenceTransformer(model, device=device), model=model, option="--sbert", what="sentence encoder"
        )

    def describe(self) -> dict[str, Any]:
        """Model and package."""
        return {**_identity(self.model), "sentence-transformers": _version("sentence-transformers")}

    def score(self, answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """As `TextScorer.score`; each different text is embedded once."""
        texts = list(dict.fromkeys(text for pair in _filled(answers, references) for text in pair))
        if not texts:
            return [0.0] * len(answers)
        vectors = self._encoder.encode(
            texts, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        place = {text: index for index, text in enumerate(texts)}

        def cosine(answer: str, reference: str) -> float:
            return float(vectors[place[answer]] @ vectors[place[reference]])

        return [
            cosine(answer, reference) if answer.strip() and reference.strip() else 0.0
            for answer, reference in zip(answers, references, strict=True)
        ]


class BertScore:
    """F1 of greedily matched token embeddings, by bert-score; not rescaled with a baseline.

    Args:
        model: folder, or name on the hub.
        layer: the layer whose states are compared. None: what bert-score found best for a model it knows; needed for
            any other.
        device: as for `SBert`.
        batch_size: pairs scored at once.

    Raises:
        UserError: the model cannot be loaded, or `layer` is missing or more than the model has.
        ModuleNotFoundError: bert-score is not installed.
    """

    name = "BERTScore"

    def __init__(
        self,
        *,
        model: str = BERTSCORE_MODEL,
        layer: int | None = None,
        device: str | None = None,
        batch_size: int = 64,
    ) -> None:
        from bert_score import BERTScorer
        from bert_score.utils import model2layers

        if layer is None and model not in model2layers:
            raise UserError(
                f"--bertscore {model}: bert-score knows no best layer of this model; say which with "
                "--bertscore-layer (of a 12-layer BERT, 9 is common)"
            )
        self.model = model
        self.layer = model2layers[model] if layer is None else layer
        self._batch_size = batch_size
        self._scorer = _loaded(
            lambda: BERTScorer(model_type=model, num_layers=self.layer, device=device, use_fast_tokenizer=True),
            model=model,
            option="--bertscore",
            what="encoder",
        )
        tokenizer = self._scorer._tokenizer
        tokenizer.model_max_length = min(tokenizer.model_max_length, _LONGEST_TOKENS)

    def describe(self) -> dict[str, Any]:
        """Model, layer and package."""
        return {
            **_identity(self.model),
            "layer": self.layer,
            "rescaled": False,
            "bert-score": _version("bert-score"),
        }

    def score(self, answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """As `TextScorer.score`."""
        pairs = _filled(answers, references)
        if not pairs:
            return [0.0] * len(answers)
        given, wanted = zip(*pairs, strict=True)
        *_, f1 = self._scorer.score(list(given), list(wanted), batch_size=self._batch_size)
        scores = iter(f1.tolist())
        return [
            next(scores) if answer.strip() and reference.strip() else 0.0
            for answer, reference in zip(answers, references, strict=True)
        ]


def _filled(answers: Sequence[str], references: Sequence[str]) -> list[tuple[str, str]]:
    pairs = zip(answers, references, strict=True)
    return [(answer, reference) for answer, reference in pairs if answer.strip() and reference.strip()]


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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
