"""`adcopilot data report`: one HTML page about a folder of training records."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...jsonl import write_text
from ...pages import html
from ...pages.charts import chart_style
from ...pages.gallery import Gallery, filters
from ...pages.sampling import Draw
from ...pages.text import clean, plural, shorten
from ...records import check_record
from ..pipeline.losses import Loss
from .cards import Card, make_card
from .charts import histogram, lengths, stacked, uneven
from .findings import Leaks, Listing, manifest_settings, read_leaks, read_listing, read_losses
from .notes import make_notes
from .scan import Faults, Files, find_files, read_line, read_lines
from .tally import LABELS, LETTERS, NO_CATEGORY, Tally

__all__ = ["Found", "add_arguments", "render", "run", "survey", "write_report"]

_PAGE = Path(__file__).parent / "page"
#: Rows of a table, at most; the files have the rest.
MOST_ROWS = 200
_MOST_TASKS = 12


@dataclass(kw_only=True)
class Found:
    """Everything that the page is about.

    Attributes:
        name: of the folder.
        datasets: (name, its file's name) of each file of records.
        tally, faults: counts of what can be used and of what cannot.
        cards: the gallery.
        gallery: what made them.
        losses: what the builds have lost, the worst first.
        listings, leaks, manifests: what other steps left; manifests by their name.
        other: JSONL files that are nothing of this.
    """

    name: str
    datasets: list[tuple[str, str]]
    tally: Tally
    faults: Faults
    cards: list[Card]
    gallery: Gallery
    losses: list[Loss]
    listings: list[Listing]
    leaks: list[Leaks]
    manifests: dict[str, list[tuple[str, str]]]
    other: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with training records (*.jsonl)")
    add("--output", type=Path, required=True, help="HTML page to write")
    add("--media-dir", type=Path, action="append", help="folder that the records' images are in, as media_dir in a "
        "training YAML (DIR); may be given several times")  # fmt: skip
    add("--samples", type=int, default=60, help="records that the gallery shows (60)")
    add("--seed", type=int, default=0, help="of the choice of these records (0)")
    add("--max-mib", type=float, default=24, help="most MiB of pictures in the page (24)")


def run(args: argparse.Namespace) -> int:
    """Write the page, then say what is in it.

    Raises:
        UserError: an option is out of range, the folder has no records, or a file cannot be read or written.
    """
    for name, low, high in (("samples", 0, 1000), ("max_mib", 0, 500)):
        value = getattr(args, name)
        if not low <= value <= high:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}, expected {low} to {high}")
    found = write_report(
        folder=args.folder,
        output=args.output,
        media_dirs=args.media_dir,
        samples=args.samples,
        seed=args.seed,
        budget=int(args.max_mib * 2**20),
    )
    for loss in found.losses:
        print(clean(loss.line))
    records, datasets = plural(found.tally.records, "record"), plural(len(found.datasets), "dataset")
    # Names that are not UTF-8 cannot be printed as they are.
    print(f"{records} of {datasets}, {len(found.cards)} of them shown: {clean(str(args.output))}")
    for (file, kind), count in sorted(found.faults.counts.items()):
        print(f"{file}: {plural(count, 'fault')} ({kind}), the first: {found.faults.first[file, kind][0]}")
    if found.gallery.missing:
        example = next(p.problem for card in found.cards for p in card.pictures if p.problem)
        print(f"{plural(found.gallery.missing, 'image')} of the shown records missing, the first: {example}")
    return 0


def write_report(
    *,
    folder: Path,
    output: Path,
    media_dirs: Sequence[Path] | None = None,
    samples: int = 60,
    seed: int = 0,
    budget: int = 24 << 20,
) -> Found:
    """Write the page and return what it says.

    The same folder and options give the same bytes.

    Args:
        folder: of the training records.
        output: the page, `.html`.
        media_dirs: where images are looked for, the folder by default.
        samples, seed: of the gallery.
        budget: bytes of pictures in the page.

    Raises:
        UserError: as `survey`, or the output is no HTML file, or cannot be written.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output {output}: expected a name that ends in .html")
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder, expected the name of a file")
    found = survey(folder=folder, media_dirs=media_dirs, samples=samples, seed=seed, budget=budget)
    # Names of files may hold what no UTF-8 does.
    write_text(output, render(found), errors="replace")
    return found


def survey(*, folder: Path, media_dirs: Sequence[Path] | None, samples: int, seed: int, budget: int) -> Found:
    """Read a folder: each file of records once, and the chosen lines again.

    Raises:
        UserError: there is no such folder, or no record in it, or a file cannot be read.
    """
    for media in media_dirs or ():
        if not media.is_dir():
            raise UserError(f"--media-dir {media}: no such folder")
    faults, tally, draw = Faults(), Tally(), Draw(count=samples, seed=seed)
    files = find_files(folder, faults)
    names = [_name(path, folder) for path in files.records]
    for index, (path, name) in enumerate(zip(files.records, names, strict=True)):
        dataset = name.removesuffix(".jsonl")
        for line in read_lines(path, name, faults):
            try:
                check_record(line.value, name=f"line {line.number}")
                stratum = tally.add(dataset, line.value)
            except UserError as error:
                faults.add(name, "not a usable record", str(error))
            except RecursionError:
                faults.add(name, "not a usable record", f"line {line.number}: nested too deeply")
            else:
                draw.offer(stratum, line.raw, (index, line.number, line.offset, line.length))
    if not tally.records:
        (file, kind), texts = next(iter(faults.first.items()), (("", ""), [""]))
        first = f" ({file}, {kind}: {texts[0]})" if file else ""
        raise UserError(f"{folder}: not one usable record in {', '.join(names[:3])}{first}")
    gallery = Gallery(media_dirs=media_dirs or [folder], budget=budget)
    cards = []
    for (dataset, task, label), (index, number, offset, length) in draw.chosen():
        record = read_line(files.records[index], offset, length)
        cards.append(make_card(record, gallery, dataset=dataset, task=task, label=label, line=number))
    return Found(
        name=shorten(folder.resolve().name, 80),
        datasets=[(name.removesuffix(".jsonl"), name) for name in names],
        tally=tally,
        faults=faults,
        cards=cards,
        gallery=gallery,
        losses=[one for path in files.manifests for one in read_losses(path, _name(path, folder), faults)],
        listings=[read_listing(path, _name(path, folder), faults) for path in files.listings],
        leaks=[one for path in files.leaks if (one := read_leaks(path, _name(path, folder), faults))],
        manifests=_manifests(files, folder, faults),
        other=[_name(path, folder) for path in files.other],
    )


def render(found: Found) -> str:
    """The page."""
    return html.render(
        _PAGE,
        "page.html.jinja",
        style=chart_style(),
        known={"stacked": stacked, "histogram": histogram, "LABELS": LABELS, "LETTERS": LETTERS},
        found=found,
        notes=make_notes(found),
        **_tables(found),
    )


def _tables(found: Found) -> dict[str, Any]:
    """What the page's tables and charts show, sorted, numbers not yet words."""
    tally = found.tally
    datasets, tasks = tally.merged(by=0), tally.merged(by=1)
    labels = Counter()
    for group in datasets.values():
        labels += group.labels
    categories = sorted(tally.categories.items(), key=lambda item: (-item[1].total(), item[0]))
    groups = sorted(tally.groups.items())
    columns = list(tasks)[:_MOST_TASKS]
    return {
        "labels": labels,
        "repeated": tally.repeated(),
        "datasets": list(datasets.items())[:MOST_ROWS],
        "more_datasets": max(0, len(datasets) - MOST_ROWS),
        "tasks": list(tasks.items())[:MOST_ROWS],
        "columns": columns,
        "more_tasks": len(tasks) - len(columns),
        "matrix": {
            name: [tally.groups[name, task].records if (name, task) in tally.groups else 0 for task in columns]
            for name in datasets
        },
        "named_categories": sum(category != NO_CATEGORY for _, category in tally.categories),
        "categories": categories[:MOST_ROWS],
        "more_categories": max(0, len(categories) - MOST_ROWS),
        "defects": tally.defects.most_common(MOST_ROWS),
        "more_defects": max(0, len(tally.defects) - MOST_ROWS),
        "yes_no": [(key, group) for key, group in groups if group.yes_no][:MOST_ROWS],
        "lettered": [(key, group, uneven(group.letters)) for key, group in groups if group.letters][:MOST_ROWS],
        "texts": [
            (task, lengths(group.questions), lengths(group.answers), group.answers)
            for task, group in list(tasks.items())[:MOST_ROWS]
        ],
        "dropped": sum(listing.total for listing in found.listings),
        "leaking": sum(leaks.leaking for leaks in found.leaks),
        "shown": filters(found.cards, ("dataset", "task", "label")),
    }


def _manifests(files: Files, folder: Path, faults: Faults) -> dict[str, list[tuple[str, str]]]:
    found = {_name(path, folder): manifest_settings(path, _name(path, folder), faults) for path in files.manifests}
    return {name: settings for name, settings in found.items() if settings is not None}


def _name(path: Path, folder: Path) -> str:
    return clean(path.relative_to(folder).as_posix())
