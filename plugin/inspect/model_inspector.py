"""Ask a model about pairs of a template and a query: verdict, score, boxes, text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..anomaly_map.comparing import AnomalyMap, Mapper, MapSettings, map_of_features
from ..anomaly_map.hints import HINT, hint_of, with_hint
from ..anomaly_map.tower import TowerFeatures
from ..answering.families import split_thinking
from ..answering.sizing import processor_sizing
from ..boxes import boxes_in_image, map_text_boxes
from ..errors import UserError
from ..finite import not_finite_at
from ..images import ImageSource, open_image, used_bits
from ..other_kind import notes_about
from ..prompts import ANSWER_WORDS, INSPECT_QUESTION
from ..trained_sizes import far_outside, read_sizes
from ..vision_tokens import escape_vision_tokens
from .greedy import Greedy, chat_prompt, whole_tokens
from .hub import model_folder
from .judging import Judge
from .loading import load_model, pick_device, pick_dtype
from .mapping import map_of_pair, with_map
from .question import Question
from .result import Result, source_name
from .same_picture import SAME_PICTURE, is_same_picture

__all__ = ["ModelInspector"]


@dataclass(kw_only=True)
class _Prepared:
    """A question ready for the model: the images resized as in training, and the sizes that map boxes back."""

    query: str
    template: str | None
    prompt: str = ""
    images: list = field(default_factory=list)
    size: tuple[int, int] | None = None
    model_size: tuple[int, int] | None = None
    error: str | None = None
    is_same: bool = False  # a template is the query itself
    far: str | None = None  # why a picture is far outside the sizes of training
    notes: list[str] = field(default_factory=list)  # that the query is animated, or of another kind than its templates
    map: AnomalyMap | None = None


class ModelInspector:
    """A model on its device, ready to compare images.

    Images go through the same two resizes as in LlamaFactory's training, and the prompt is training's. Answers are
    greedy, so they do not change from run to run; the batch size changes them only as far as floating-point sums in
    another order do (last digits in float32).

    Args:
        model: folder of an AD-Copilot model, or of a Qwen2.5-VL model as a baseline.
        device: `auto`, or a torch device: `cpu`, `cuda`, `cuda:1`.
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        attention: transformers' `attn_implementation`: `sdpa`, `eager`, `flash_attention_2`.
        image_max_pixels, image_min_pixels: the areas images are brought between; give what training used. By default
            what the model folder's processor says, or LlamaFactory's own defaults (589824 and 1024).
        question: what is asked about the pair; to be answered by yes (there is an anomaly) or no.
        judge: what gives the verdict, and from where on; by default the model, from 0.5.
        max_new_tokens: longest answer.
        batch_size: pairs that are answered together.
        any_size: give a verdict about pictures far outside the sizes of training too (`adcopilot.trained_sizes`).
        map: how an anomaly map is made beside the answer (`adcopilot.anomaly_map`); None for none.
        hints: tell the model what the map marks (`adcopilot.anomaly_map.hints`); with a map that is there before it
            answers.

    Raises:
        UserError: the folder cannot be used, or a value is out of its range.
    """

    def __init__(
        self,
        *,
        model: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "sdpa",
        image_max_pixels: int | None = None,
        image_min_pixels: int | None = None,
        question: str = INSPECT_QUESTION,
        judge: Judge | None = None,
        max_new_tokens: int = 512,
        batch_size: int = 4,
        any_size: bool = False,
        map: MapSettings | None = None,
        hints: bool = False,
    ) -> None:
        if min(batch_size, max_new_tokens) < 1:
            raise UserError(f"--batch-size {batch_size}, --max-new-tokens {max_new_tokens}: expected 1 or more")
        if not question.strip():
            raise UserError("--question is empty; leave it out for the question of training")
        self.folder = model_folder(model)
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.question, self.judge = question, judge or Judge()
        self.map = map
        # a backbone of its own is loaded before the model: it is the smaller of the two to fail
        self.mapper = Mapper(map, device=self.device) if map and (map.kind != "features" or map.backbone) else None
        if hints and self.mapper is None:
            raise UserError(
                "--hints map needs a map before the model answers: give --map pixels, or a --map-backbone with --map "
                "features"
            )
        self.hints = hints
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.model, self.processor = load_model(self.folder, device=self.device, dtype=self.dtype, attention=attention)
        # Training's, for a baseline too: both are shown the same pictures.
        self.sizing = processor_sizing(
            self.processor, family="adcopilot", smallest=image_min_pixels, largest=image_max_pixels
        )
        self.any_size = any_size
        self.trained_sizes = read_sizes(getattr(self.processor, "trained_sizes", None), folder=self.folder)
        self.greedy = Greedy(self.model, self.processor, name=str(self.folder))
        self._yes, self._no = answer_tokens(self.processor.tokenizer)
        #: The depth that all images to come use (`images.used_bits`) where they are known, else each question has one.
        self.bits: int | None = None

    def settings(self) -> dict[str, Any]:
        """All that the answers depend on besides the model and the images; not the verdicts, which the judge gives
        anew."""
        settings = {
            "question": self.question,
            "image_max_pixels": self.sizing.training.largest,
            "image_min_pixels": self.sizing.training.smallest,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.dtype,
            **({"bits": self.bits} if (self.bits or 8) > 8 else {}),
            **({"map": self.map.to_dict()} if self.map else {}),
            # with hints, what is asked depends on where the map draws its boxes
            **({"hints": {"sentence": HINT, "map_threshold": self.judge.map_threshold}} if self.hints else {}),
        }
        # Only where it is given: lines of versions without it stay found.
        return {**settings, "any_size": True} if self.any_size else settings

    def inspect_many(self, pairs: Iterable[tuple[ImageSource, ImageSource]]) -> Iterator[Result]:
        """Answer pairs one after the other, `batch_size` at a time.

        Args:
            pairs: (template, query): paths, encoded bytes, binary files or PIL images. Read lazily.

        Yields:
            A `Result` for each pair, in order. An image that cannot be used gives a result with `error`.

        Raises:
            UserError: the device's memory does not hold a batch.
        """
        return self.ask(self.pair_question(template, query) for template, query in pairs)

    def pair_question(self, template: ImageSource, query: ImageSource, more: tuple[ImageSource, ...] = ()) -> Question:
        """What `inspect_many` asks about a pair; `more` templates are for the anomaly map alone."""
        return Question(templates=(template,), query=query, text=self.question, more=more)

    def ask(self, questions: Iterable[Question]) -> Iterator[Result]:
        """Answer questions one after the other, `batch_size` at a time: other words than those of `inspect_many`,
        several templates or none, and earlier turns.

        Args:
            questions: read lazily.

        Yields:
            As `inspect_many`. `Result.template` names the last template.

        Raises:
            UserError: as `inspect_many`.
        """
        questions = iter(questions)

        def prepare() -> list[_Prepared]:
            return [self._prepare(question) for question in islice(questions, self.batch_size)]

        # The next images are decoded while the model answers the ones before.
        with ThreadPoolExecutor(1) as reader:
            batch = reader.submit(prepare).result()
            while batch:
                following = reader.submit(prepare)
                yield from self._answer(batch)
                batch = following.result()

    def _prepare(self, question: Question) -> _Prepared:
        sources = [(source, source_name(source, "template")) for source in question.templates]
        prepared = _Prepared(query=source_name(question.query, "query"), template=sources[-1][1] if sources else None)
        prepared.prompt = self.prompt(question)
        shown = [*sources, (question.query, prepared.query)]
        try:
            # Template and query by one depth, else the darker one would look like another material.
            bits = self.bits or used_bits(source for source, _ in shown)
            templates = [open_image(source, name=name, bits=bits) for source, name in sources]
            query = open_image(question.query, name=prepared.query, bits=bits)
            prepared.is_same = any(is_same_picture(template, query) for template in templates)
            prepared.size = query.size
            sources_of_pair = (question.query, *question.templates)
            prepared.notes = notes_about(query, templates, sources=sources_of_pair, name=prepared.query, bits=bits)
            if self.mapper and templates and not prepared.is_same:
                more = [
                    open_image(source, name=source_name(source, "template"), bits=bits) for source in question.more
                ]
                # templates of another view: the model's answer stands alone
                prepared.map = map_of_pair(self.mapper, query, [*templates, *more])
            for image, (_, name) in zip((*templates, query), shown, strict=True):
                prepared.model_size = self.model_size(image.size)  # the query's at last
                far = far_outside(prepared.model_size, self.trained_sizes)
                prepared.far = prepared.far or (far and f"{name}: {far}")
                prepared.images.append(self.sizing.apply(image))
            if self.hints and prepared.map is not None:
                told = hint_of(prepared.map, threshold=self.judge.map_threshold, space=prepared.model_size)
                prepared.prompt = self.prompt(replace(question, text=with_hint(question.text, told)))
        except UserError as error:
            prepared.error = str(error)
        return prepared

    def model_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that an upright image of `size` has for the model: the space of the boxes in its answers."""
        return self.sizing.model_size(size)

    def prompt(self, question: Question) -> str:
        """The prompt of a question before its image tokens are expanded: the images, then what was and is said."""
        turns: list[tuple[str, list[str | int]]] = []
        for asked, answer in (*question.turns, (question.text, None)):
            turns.append(("user", [escape_vision_tokens(asked)]))
            if answer is not None:
                turns.append(("assistant", [escape_vision_tokens(answer)]))
        turns[0][1][:0] = range(len(question.templates) + 1)
        return chat_prompt(self.processor, turns)

    def encode(self, batch: list[_Prepared]) -> Any:
        """The model's inputs for prepared questions, padded on the left."""
        return self.processor(
            text=[pair.prompt for pair in batch],
            images=[image for pair in batch for image in pair.images],
            padding=True,
            return_tensors="pt",
        )

    def _answer(self, batch: list[_Prepared]) -> list[Result]:
        good = [pair for pair in batch if pair.error is None]
        answers = iter(self._generate(good) if good else [])
        return [
            Result(query=pair.query, template=pair.template, error=pair.error) if pair.error else next(answers)
            for pair in batch
        ]

    @torch.inference_mode()
    def _generate(self, batch: list[_Prepared]) -> list[Result]:
        inputs = self.encode(batch).to(self.device)
        try:
            with TowerFeatures(self.model, wanted=bool(self.map) and self.mapper is None) as tower:
                found = self.greedy.answer(inputs, max_new_tokens=self.max_new_tokens)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{self.device}: out of memory with {len(batch)} pairs at once; use a smaller --batch-size"
                " or --image-max-pixels"
            ) from error
        if tower.wanted:
            self._add_features(batch, tower.of_images(inputs["image_grid_thw"]))
        probabilities = found.first_logits.softmax(-1)
        yes, no = (probabilities[:, ids].sum(-1) for ids in (self._yes, self._no))
        # From the logits, not from the probabilities: both may be too small for float32.
        margins = found.first_logits[:, self._yes].logsumexp(-1) - found.first_logits[:, self._no].logsumexp(-1)
        scores = torch.sigmoid(margins.double())
        texts = self.greedy.texts(found.tokens)
        rows = zip(batch, texts, scores.tolist(), (yes + no).tolist(), found.failed, strict=True)
        return [
            Result(query=pair.query, template=pair.template, error=f"{pair.query}: {not_finite_at(failed)}")
            if failed
            else self._result(pair, text, score, mass)
            for pair, text, score, mass, failed in rows
        ]

    def map_again(self, result: Result, question: Question) -> Result:
        """A stored result with its map made anew; one of the model's own tower stays as it is, without its picture."""
        if self.mapper is None:
            return result
        prepared = self._prepare(question)
        return (
            with_map(result, prepared.map, threshold=self.judge.map_threshold, alone=False) if prepared.map else result
        )

    def _add_features(self, batch: list[_Prepared], features: list[torch.Tensor]) -> None:
        """Maps of what the tower made of each question's images, of which the query is the last."""
        for pair in batch:
            *templates, query = (features.pop(0) for _ in pair.images)
            if templates and not pair.is_same:
                pair.map = map_of_features(query, templates, size=pair.size, settings=self.map)

    def _result(self, pair: _Prepared, text: str, score: float, mass: float) -> Result:
        _, said = split_thinking(text)
        if said != text:  # reasoning or a tag came first, and the first word was not the answer's
            score = mass = None
        else:  # as they are written, so that a stored line means the same
            score, mass = round(score, 6), round(min(mass, 1.0), 6)
        doubt, notes = None, pair.notes
        if pair.is_same:  # a number would be ranked among those of real pairs
            doubt, score, mass = SAME_PICTURE, None, None
        elif pair.far and self.any_size:
            notes = [f"{pair.far}; answered all the same, as --any-size asks", *notes]
        elif pair.far:
            doubt = pair.far
        result = Result(
            query=pair.query,
            template=pair.template,
            score=score,
            # What a model weighs while it reasons is no finding.
            boxes=boxes_in_image(said, pair.model_size, pair.size),
            answer=text,
            text=map_text_boxes(text, pair.model_size, pair.size),
            yes_no_mass=mass,
            size=pair.size,
            doubt=doubt,
            note="; ".join(notes) or None,
        )
        if pair.map:
            result = with_map(result, pair.map, threshold=self.judge.map_threshold, alone=False)
        return self.judge.judged(result)


def answer_tokens(tokenizer) -> tuple[list[int], list[int]]:
    """Ids of the first tokens of "Yes" and of "No", in every case and with a space before, as far as they tell the two
    apart.

    A variant counts if the vocabulary has it whole; the word of training counts by its first piece at least.
    """
    found = []
    for word in ANSWER_WORDS:
        first = tokenizer.encode(word, add_special_tokens=False)[0]
        found.append({first, *whole_tokens(tokenizer, (word, word.lower(), word.upper()))})
    yes, no = found
    if not yes - no or not no - yes:
        raise UserError(f"{tokenizer.name_or_path}: {' and '.join(ANSWER_WORDS)} begin with the same token")
    return sorted(yes - no), sorted(no - yes)
