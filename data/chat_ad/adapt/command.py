"""`adcopilot adapt FOLDER --output LINE`: data, training, threshold, report, one after the other.

    LINE/            the model (where one is trained or given), inspection.json, templates/, report.html
    LINE/work/       what it was made with: recipe.yaml, data/, train.yaml, export.yaml, logs

A run that was stopped is started again with the same command and goes on after the last step that finished.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from adcopilot.chat_ad.chain import ChainRun, ChainStep, tool
from adcopilot.cli import saying
from adcopilot.errors import UserError
from adcopilot.inspect.command import add_map_arguments, map_settings
from adcopilot.inspect.hub import model_folder, model_title
from adcopilot.inspect.loading import check_folder
from adcopilot.jsonl import content_key, file_digest
from adcopilot.line import calibrate as calibration
from adcopilot.line.calibrate import calibrate, quoted, share, takes_texture
from adcopilot.line.inspection import FILE
from adcopilot.line.pictures import check_good, check_whole, with_marks
from adcopilot.line.placing import place_model

from .folder import Split, copy_held_out, read_folder, split
from .memory import check_memory, memory_at_hand
from .training import Base, besides, budget, method, open_base, write_export, write_recipe, write_training

SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, help="good/ and a folder for each kind of defect, or what data build reads"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the line's folder")
    parser.add_argument("--base", type=Path, metavar="DIR|ID", help="model to train on (a tiny one made from nothing)")
    parser.add_argument(
        "--minutes", type=float, default=15, help="of everything, as counted; training has what is left (15)"
    )
    parser.add_argument("--steps", type=int, help="of training, whatever the minutes and however few the pictures")
    parser.add_argument("--no-train", action="store_true", help="take --base as it is, or the anomaly map alone")
    parser.add_argument("--marks", type=Path, metavar="FILE", help="marks from a report page, before folders' names")
    parser.add_argument("--mixed", action="store_true", help="take good pictures that fall into groups")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--max-missed", type=share, metavar="SHARE", help="miss at most this share of defective parts")
    goal.add_argument("--max-false-alarms", type=share, metavar="SHARE", help="at most this share of good parts")
    parser.add_argument("--batch-size", type=int, default=4, help="pairs answered together (4)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto)")
    add_map_arguments(parser)
    parser.set_defaults(image_max_pixels=None)


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()

    def say(line: str) -> None:
        seconds = int(time.monotonic() - started)
        saying.say(f"[{seconds // 60:02d}:{seconds % 60:02d}] {line}")

    if args.minutes <= 0 or (args.steps is not None and args.steps < 1):
        raise UserError(f"--minutes {args.minutes:g}, --steps {args.steps}: expected more than 0")
    output = args.output.resolve()
    if output.is_relative_to(args.folder.resolve()):
        raise UserError(f"--output {args.output}: lies inside {args.folder}, which is read; give a folder elsewhere")
    settings = map_settings(args, None)
    if args.base is not None:
        args.base = model_folder(args.base, option="--base")
        check_folder(args.base)
    reader, photos = read_folder(args.folder)
    # marks first: what is marked trains nothing, and is no template where it is marked as defective
    pictures = with_marks(photos, args.marks, [args.folder])
    marked = [one for one in pictures if one.marked]
    known = {one.file for one in pictures} - {one.file for one in marked}
    kept = [one for one in photos if one.file in known]
    good = [one.file for one in pictures if not one.bad]
    check_whole([one.file for one in pictures])
    textures = takes_texture(_calibration_arguments(args, output, no_model=True))
    check_good(good, args.folder, mixed=args.mixed, textures=textures)
    parts = split(kept, may_train=not args.no_train, forced=args.steps is not None)
    if settings is None and args.base is None and not parts.train:
        raise UserError("--map off: without a model nothing is left to inspect with; give --base MODEL")
    if args.base is not None:
        _check_base(args, parts)
    for line in _about(args, reader, photos, parts):
        say(line)
    work = output / "work"
    work.mkdir(parents=True, exist_ok=True)
    model = _train(args, reader, parts, marked, output, work, say) if parts.train else args.base
    if model is not None and model.resolve() != output:
        place_model(model, output)
    say("calibration on what was held out")
    pictures = [*parts.held_out, *marked]
    found = calibrate(
        _calibration_arguments(args, output, no_model=model is None),
        pictures,
        settings=settings,
        output=output,
        no_model=model is None,
        templates=[one.file for one in parts.train if not one.bad] or None,
        made={
            "command": "adcopilot adapt",
            "folder": content_key(sorted(file_digest(one.file) for one in photos)),
            "layout": reader,
            "trained_on": len(parts.train),
            "not_trained": parts.why or None,
            "base": None if args.base is None else model_title(args.base),
            "seed": SEED,
        },
    )
    calibration.write_report(found, output / "report.html", title=output.name)
    for line in calibration.in_words(found):
        say(line)
    say(f"{output / FILE} and {output / 'report.html'} are written")
    print(f"adcopilot inspect --model {quoted(args.output)} --query-dir DIR --report report.html")
    return 0


def _about(args, reader: str, photos, parts: Split) -> list[str]:
    bad = [one for one in photos if one.bad]
    kinds = sorted({one.kind for one in bad if one.kind})
    told = f"{args.folder}: layout {reader}, {len(photos) - len(bad)} good and {len(bad)} defective pictures"
    lines = [told + (f" ({', '.join(kinds[:8])}{', …' if len(kinds) > 8 else ''})" if kinds else "")]
    if parts.why:
        return [*lines, parts.why]
    return [*lines, f"{len(parts.train)} train, {len(parts.held_out)} are held out for the threshold"]


def _check_base(args, parts: Split) -> None:
    """Refuse a base that cannot be trained here, or not in the minutes, or not answer, before anything long."""
    base = open_base(args.base, device=args.device, trains=bool(parts.train))
    settings = method(base) if parts.train else None
    check_memory(base, free=memory_at_hand(gpu=base.gpu), settings=settings)
    if parts.train:
        bad = sum(one.bad for one in parts.train)
        least = 2 * min(bad, len(parts.train) - bad)  # pairs: as many of each verdict, with one template at least
        budget(base, samples=least, minutes=args.minutes, steps=args.steps, besides=_besides(base, parts))


def _besides(base: Base, parts: Split) -> float:
    return besides(base, photos=len(parts.train) + len(parts.held_out), held_out=len(parts.held_out))


def _train(args, reader: str, parts: Split, marked, output: Path, work: Path, say) -> Path:
    """Data, training and export through the stock commands; the folder of the model."""
    base_folder = args.base or work / "base"
    held_out = work / "held_out"
    copy_held_out([one.file for one in (*parts.held_out, *marked)], held_out)
    write_recipe(
        work / "recipe.yaml",
        reader=reader,
        root=args.folder.resolve(),
        held_out=held_out,
        seed=SEED,
    )
    data = work / "data"
    steps = []
    if args.base is None:
        command = [tool("adcopilot"), "init", "--preset", "tiny", "--output", str(base_folder), "--seed", str(SEED)]
        steps.append(ChainStep(name="base", command=command, output=base_folder))
    command = [tool("adcopilot"), "data", "build", str(work / "recipe.yaml"), "--output", str(data)]
    # a folder that has other pictures now, or holds out others, is another set
    made_of = (work / "recipe.yaml", *(one.file for one in parts.train), *sorted(held_out.iterdir()))
    steps.append(ChainStep(name="data", command=command, output=data, resumes=True, inputs=made_of))
    _carry_out(steps, work, say)
    base = open_base(base_folder, device=args.device)
    with open(data / "Verdict.jsonl", "rb") as lines:
        samples = sum(1 for _ in lines)
    if not samples:
        raise UserError(f"{data}: no pair came of the pictures; see {work / 'data.log'}")
    rest = _besides(base, parts)
    plan = budget(base, samples=samples, minutes=args.minutes, steps=args.steps, besides=rest)
    told = f"about {max(plan.minutes, 0.1):.1f} minutes, and {rest:.1f} for all else"
    say(f"training: {samples} pairs, {plan.steps} steps of {plan.batch}, {told}")
    trained, exported = work / "trained", work / "model"
    write_training(work / "train.yaml", base=base, data=data, budget=plan, output=trained, seed=SEED)
    write_export(work / "export.yaml", base=base, trained=trained, output=exported)
    weights = check_folder(base_folder)[1]  # trained further in place, a base is another
    train, export, records = work / "train.yaml", work / "export.yaml", data / "Verdict.jsonl"
    command = [tool("llamafactory-cli"), "train", str(train)]
    steps = [ChainStep(name="training", command=command, output=trained, inputs=(train, records, *weights))]
    command = [tool("llamafactory-cli"), "export", str(export)]
    steps.append(ChainStep(name="export", command=command, output=exported, inputs=(train, export, records)))
    _carry_out(steps, work, say, gpu=base.gpu)
    return exported


def _carry_out(steps: list[ChainStep], work: Path, say, *, gpu: bool = False) -> None:
    run = ChainRun(name="adapt", folder=work, steps=steps, cpu=not gpu)
    run.start()
    shown = None
    while run.is_alive():
        run.join(timeout=5)
        state = run.state().removeprefix("adapt: ")
        if state != shown and run.error is None and state != "done":
            say(state)
            shown = state
    if run.error:
        raise run.error


def _calibration_arguments(args, output: Path, *, no_model: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    calibration.add_arguments(parser)
    words = ["none" if no_model else str(output), "--good", str(args.folder), "--output", str(output)]
    words += ["--device", args.device, "--batch-size", str(args.batch_size)]
    found = parser.parse_args(words)
    for name in ("max_missed", "max_false_alarms", "map", "map_templates", "map_search", "map_backbone", "box_growth"):
        setattr(found, name, getattr(args, name))
    return found
