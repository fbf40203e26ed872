"""What MMAD-BBox asks: where the defect is, each model in its family's own box format (`families.box_question`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adcopilot.answering.families import Family, box_question
from adcopilot.answering.items import Item
from adcopilot.errors import UserError
from adcopilot.images import image_size
from adcopilot.jsonl import content_key
from adcopilot.tasks.verdict import OPTIONS

from ...box_scores import encode_mask, read_truth_mask
from ...image_digests import image_digests
from ..mmad import dataset
from ..mmad.prompts import PROMPTS

__all__ = ["find_masks", "items", "truth_fields"]

#: Asked about the same images for a score to rank them by, of models whose box answer does not begin with yes or no.
_DEFECTIVE = "Is there any defect in the query image? Answer with the letter of the right option.\nA. Yes.\nB. No."


def find_masks(root: Path, samples: Sequence[dataset.MmadSample]) -> dict[str, Path]:
    """Image → its mask file or folder, for anomalous samples.

    Raises:
        UserError: masks are missing; it says how many, and the first few images they belong to.
    """
    found, missing = {}, []
    for sample in samples:
        if sample.normal:
            continue
        path = next((path for path in sample.masks(root) if path.exists()), None)
        if path is None:
            missing.append(sample.image)
        else:
            found[sample.image] = path
    if missing:
        raise UserError(
            f"{root}: {len(missing)} anomalous images have no mask on the disk: {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}; download MMAD's masks, or leave out what lacks them with --category"
        )
    return found


def items(
    samples: Sequence[dataset.MmadSample],
    *,
    root: Path,
    shots: int,
    kind: str,
    family: Family,
    thinking: bool = False,
    with_score: bool = False,
    masks: Mapping[str, Path] | None = None,
    folder: Path | None = None,
) -> list[Item]:
    """One item a sample, and with `with_score` what its anomaly score is read from.

    AD-Copilot gets a pair as in its training, without further words, and its answer begins with yes or no (unless it
    reasons first: then it is asked once more, without). Other models are told which image is what, and are asked a
    second question in the same group.

    Args:
        samples, root, shots, kind, thinking, folder: as `mmad.prompts.items`.
        family: how the model is asked for boxes.
        with_score: whether images are to be ranked.
        masks: image → its mask, whose hash an item's `meta` then has: what is true can change without the question.
    """
    own = family.name == "adcopilot" and shots == 1
    parts: tuple[str | int, ...] = tuple(range(shots + 1))
    if not own:
        before = (PROMPTS["template" if shots == 1 else "templates"].replace("{count}", str(shots)),) if shots else ()
        parts = (*before, *range(shots), PROMPTS["query"], shots)
    question = box_question(family, images=shots + 1)
    question = question if own else f"\n{question}"
    shown = [(*dataset.templates(sample, shots=shots, kind=kind), sample.image) for sample in samples]
    files = [root / name for names in shown for name in names]
    mask_files = {image: _mask_files(path) for image, path in (masks or {}).items()}
    digests = image_digests([*files, *(file for some in mask_files.values() for file in some)], folder=folder)
    found = []
    for sample, names in zip(samples, shown, strict=True):
        paths = tuple(root / name for name in names)
        group = content_key("mmad-bbox", names, [digests[path] for path in paths], parts)
        ask: list[tuple[str, str, dict[str, str] | None]] = [("boxes", question, None)]
        if with_score and own and not thinking:
            ask = [("boxes", question, OPTIONS)]
        elif with_score and own:
            ask.append(("score", question, OPTIONS))
        elif with_score:
            ask.append(("score", f"\n{_DEFECTIVE}", {"A": "Yes.", "B": "No."}))
        for role, text, options in ask:
            # The score is the probability of the first word, which reasoning would take the place of.
            words = family.question(text, thinking=True) if thinking and role == "boxes" else text
            found.append(
                Item(
                    key=content_key(group, role, words, options),
                    group=group,
                    images=paths,
                    prefix=parts,
                    question=words,
                    options=options,
                    meta={
                        **sample.meta(names[:-1]),
                        "role": role,
                        **(
                            {"mask_hash": content_key([digests[file] for file in mask_files[sample.image]])}
                            if role == "boxes" and sample.image in mask_files
                            else {}
                        ),
                    },
                )
            )
    return found


def _mask_files(path: Path) -> list[Path]:
    """A mask's file, or those of a folder of masks."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def truth_fields(
    item: Item, *, masks: Mapping[str, Path], model_size: Callable[[tuple[int, int]], tuple[int, int]]
) -> dict[str, Any]:
    """What a line of the run carries so that it can be scored alone: sizes, and the mask as run lengths.

    Raises:
        UserError: the mask cannot be read, or is not of the image's size.
    """
    if item.meta["role"] != "boxes":
        return {}
    size = image_size(item.images[-1])
    fields: dict[str, Any] = {"size": list(size), "model_size": list(model_size(size))}
    path = masks.get(item.meta["image"])
    if path is not None:
        fields["mask"] = encode_mask(read_truth_mask(path, size=size))
    return fields
