"""`adcopilot rollouts RUN`: what a policy wrote and what it earned, as one HTML page."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean as mean
from typing import Any

from markupsafe import Markup

from ..boxes import parse_boxes
from ..errors import UserError
from ..jsonl import read_jsonl, write_text
from ..pages.charts import Point, Series, chart_style, line_plot
from ..pages.gallery import Box, Gallery, Picture, filters
from ..pages.html import render
from ..pages.sampling import Draw
from ..pages.text import cut, shorten
from .checkpoints import read_about
from .rollout_log import FILE

__all__ = ["curves", "make_cards", "write_page"]

_PAGE = Path(__file__).parent / "page"
# Colours of the style sheet: bluish green for what is true, red for what the best completion says.
_TRUE, _PREDICTED = 3, 0
MOST_BOXES = 40


@dataclass(kw_only=True)
class RolloutCard:
    """A prompt with its group of completions, the best first."""

    mode: str
    task: str
    part: str
    step: int
    question: str
    truth: str
    mean: float
    pictures: list[Picture] = field(default_factory=list)
    completions: list[Mapping[str, Any]] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="output_dir of `adcopilot grpo`")
    parser.add_argument("--output", type=Path, help="the page (RUN/rollouts.html)")
    parser.add_argument("--media-dir", type=Path, help="folder of the images, if not the run's own")
    parser.add_argument("--samples", type=int, default=60, help="prompts that are shown (60)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    parser.add_argument("--max-mib", type=float, default=16.0, help="of pictures in the page (16)")


def run(args: argparse.Namespace) -> int:
    output = args.output or args.run / "rollouts.html"
    write_page(
        run=args.run,
        output=output,
        media_dir=args.media_dir,
        samples=args.samples,
        seed=args.seed,
        budget=int(args.max_mib * 2**20),
    )
    print(output)
    return 0


def write_page(*, run: Path, output: Path, media_dir: Path | None, samples: int, seed: int, budget: int) -> None:
    """Write the page of a run.

    Args:
        run: its folder, with `rollouts.jsonl` and `grpo.json`.
        output: the HTML file.
        media_dir: folder of the images; by default the run's own.
        samples: prompts that are shown, in turn from training and held out, tasks, and thirds of the run.
        seed: of the choice.
        budget: bytes of all pictures.

    Raises:
        UserError: the run has no rollouts, or they are damaged.
    """
    log = run / FILE
    if not log.is_file():
        raise UserError(f"{log}: not found; give the output_dir of an `adcopilot grpo` run")
    about = read_about(run)
    rows = [row for _, row in read_jsonl(log)]
    if not rows:
        raise UserError(f"{log}: has no rollouts yet; wait for the run's first step")
    settings = about.get("settings", {})
    media_dir = media_dir or Path(settings.get("media_dir") or settings.get("dataset_dir") or ".")
    try:
        cards = make_cards(rows, samples=samples, seed=seed, media_dir=media_dir, budget=budget)
        plots = curves(rows)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{log}: a line is not as `adcopilot grpo` writes it ({type(error).__name__}: {error})"
        ) from None
    text = render(
        _PAGE,
        "rollouts.html.jinja",
        style=chart_style() + (_PAGE / "rollouts.css").read_text("utf-8"),
        name=shorten(run.resolve().name, 80),
        curves={name: (Markup(_plot(name, lines)), lines) for name, lines in plots.items()},
        cards=cards,
        shown=filters(cards, ("mode", "task", "part")),
        groups=len(rows),
        completions=sum(len(row["completions"]) for row in rows),
        settings=[(name, shorten(value, 200)) for name, value in _flat(about)],
    )
    write_text(output, text, errors="replace")


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Series]]:
    """Mean reward by step, in total and by reward function, of held-out prompts and of training's (faint)."""
    sums: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for one in row["completions"]:
            sums["total", row["mode"]][row["step"]].append(one["total"])
            for name, value in one["rewards"].items():
                sums[name, row["mode"]][row["step"]].append(value)
    return {
        name: [
            Series(
                name=words,
                points=[Point(x=step, y=mean(values)) for step, values in sorted(sums[name, mode].items())],
                faint=mode == "train",
            )
            for mode, words in (("eval", "held out"), ("train", "training"))
            if (name, mode) in sums
        ]
        for name in sorted({name for name, _ in sums}, key=lambda name: (name != "total", name))
    }


def _plot(name: str, lines: Sequence[Series]) -> str:
    """A chart; all but the total's have one range, so that they can be compared."""
    top = max(1.0, max(point.y for line in lines for point in line.points))
    return line_plot(name, lines, x_label="step", y_label="mean reward", y_range=(0, top), ground=False)


def make_cards(
    rows: Sequence[Mapping[str, Any]], *, samples: int, seed: int, media_dir: Path, budget: int
) -> list[RolloutCard]:
    """Choose prompts and make their cards; boxes drawn are the record's and those of the best completion."""
    draw, last = Draw(count=samples, seed=seed), max(row["step"] for row in rows)
    for index, row in enumerate(rows):
        draw.offer((row["mode"], row["task"], _part(row["step"], last)), row["key"].encode(), index)
    gallery = Gallery(media_dirs=[media_dir], budget=budget)
    cards = []
    for (_, _, part), index in draw.chosen():
        row = rows[index]
        best = sorted(row["completions"], key=lambda one: -one["total"])
        card = RolloutCard(
            mode="held out" if row["mode"] == "eval" else "training",
            task={"mc": "multiple choice", "loc": "localisation"}.get(row["task"], row["task"]),
            part=part,
            step=row["step"],
            question=cut(row["question"].replace("<image>", "")),
            truth=cut(str(row["truth"])),
            mean=sum(one["total"] for one in best) / len(best),
            completions=[{**one, "text": cut(one["text"])} for one in best],
        )
        for number, path in enumerate(row["images"]):
            role = "query" if number == len(row["images"]) - 1 else "template"
            card.pictures.append(gallery.picture(path, role))
        if card.pictures and row["task"] == "loc":
            query = card.pictures[-1]
            predicted = [found["bbox_2d"] for found in parse_boxes(best[0]["text"])]
            for boxes, label, colour in (
                (row["boxes"], "true", _TRUE),
                (predicted, "best completion", _PREDICTED),
            ):
                told = colour == _PREDICTED
                query.boxes += [Box.of(box, label=label, colour=colour, told=told) for box in boxes[:MOST_BOXES]]
        cards.append(card)
    return cards


def _part(step: int, last: int) -> str:
    return ("first third", "middle", "last third")[min(3 * step // (last + 1), 2)]


def _flat(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{group}: {name}", json.dumps(value) if not isinstance(value, str) else value)
        for group, values in about.items()
        if isinstance(values, dict)
        for name, value in values.items()
    ]
