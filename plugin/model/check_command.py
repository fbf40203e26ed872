"""`adcopilot check FOLDER`: does `generate` still answer what it answered when the folder was written?"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError, one_line
from .check import (
    FIXTURE,
    MARGIN_LIMITS,
    comparable,
    compare,
    make_fixture,
    read_fixture,
    stored_dtype,
    write_fixture,
)

_DTYPES = ("auto", *MARGIN_LIMITS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of an AD-Copilot model, or its hub id")
    parser.add_argument("--write", action="store_true", help=f"write {FIXTURE} of what the model answers now")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the code in the folder, not this package's"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (auto: the first GPU, else the CPU)")
    parser.add_argument(
        "--dtype", default="auto", choices=_DTYPES, help="(auto: the fixture's; with --write that of the weights)"
    )


def run(args: argparse.Namespace) -> int:
    """Check a folder, or write its fixture; one line on stdout says what was found.

    Raises:
        UserError: whatever is not as it was: file, found, expected, and what to type.
    """
    from ..inspect.hub import is_hub_id, model_folder
    from ..inspect.loading import check_folder, pick_device, read_config

    if args.write and is_hub_id(args.folder):
        raise UserError(
            f"{args.folder}: is on a hub; `hf download {args.folder} --local-dir DIR` first, and check DIR"
        )
    args.folder = model_folder(args.folder, option="folder", code=args.trust_remote_code)
    model_type, _ = check_folder(args.folder)
    if model_type != "adcopilot":
        raise UserError(
            f"{args.folder / 'config.json'}: model_type is {model_type!r}, expected 'adcopilot'; make such a folder "
            f"with `adcopilot init --base {args.folder} --output NEW_FOLDER`"
        )
    fixture = None if args.write else read_fixture(args.folder)
    config = read_config(args.folder)
    device = pick_device(args.device)
    dtype = args.dtype if args.dtype != "auto" else fixture.dtype if fixture else stored_dtype(config)
    remedy = _remedy(args.folder, config, fixture, own=args.trust_remote_code)
    try:
        model, processor = _load(args, config, device=device, dtype=dtype)
    except UserError as error:
        # what the loader says has a remedy of its own, but knows neither of other versions nor of other code
        likely = args.trust_remote_code or remedy.startswith("try ")
        raise UserError(f"{error}; {remedy}" if likely else str(error)) from error
    import transformers

    from .. import __version__

    code = "the folder's own code" if args.trust_remote_code else f"the code of adcopilot {__version__}"
    now = f"{code} and transformers {transformers.__version__} on {model.device.type} in {dtype}"
    path = args.folder / FIXTURE
    if fixture is None:
        existed = path.exists()
        try:
            fixture = make_fixture(model, processor)
        except UserError as error:
            raise UserError(f"{args.folder}: {error}; {remedy}") from error
        except Exception as error:  # upstream's, in a version that was never tried
            raise UserError(f"{args.folder}: `generate` stopped ({_said(error)}); {remedy}") from error
        write_fixture(args.folder, fixture)
        count = comparable(fixture.margins, limit=MARGIN_LIMITS[fixture.dtype])
        print(f"{'replaced' if existed else 'wrote'} {path} with {now}: {_count(count, fixture)} can be compared")
        if not count:
            print(f"{path}: {_tie(args.folder, dtype, fixture)}")
        return 0
    then = f"adcopilot {fixture.adcopilot} and transformers {fixture.transformers} on {fixture.device}"
    then += f" in {fixture.dtype}"
    try:
        count = compare(fixture, model, processor)
    except UserError as error:
        raise UserError(f"{path}: {error}; written with {then}, now {now}; {remedy}") from error
    except Exception as error:  # upstream's, in a version that was never tried
        stopped = f"`generate` stopped ({_said(error)})"
        raise UserError(f"{path}: {stopped}; written with {then}, now {now}; {remedy}") from error
    if not count:
        raise UserError(f"{path}: {_tie(args.folder, dtype, fixture)}")
    print(
        f"{args.folder}: {_count(count, fixture)} compared and equal, images compared once in `generate`; written "
        f"with {then}, now {now}; its config.json names adcopilot {config.get('adcopilot_version')} and transformers "
        f"tried {_tried(config)}"
    )
    return 0


def _load(args: argparse.Namespace, config: dict, *, device: str, dtype: str):
    import transformers

    from ..inspect.loading import load_model
    from .folder_code import own_classes

    transformers.logging.set_verbosity_error()
    classes = own_classes(args.folder, config.get("auto_map")) if args.trust_remote_code else None
    return load_model(args.folder, device=device, dtype=dtype, attention="sdpa", classes=classes)


def _tried(config: dict) -> str:
    tried = config.get("transformers_tried")
    return f"{tried[0]} to {tried[-1]}" if isinstance(tried, list) and tried else "none"


def _remedy(folder: Path, config: dict, fixture, *, own: bool) -> str:
    """What to type where the folder does not answer as it did: the likeliest cause first."""
    import transformers

    from .configuration import AUTO_MAP, TRANSFORMERS_TRIED
    from .folder_code import differing

    if own and (differing(folder) or config.get("auto_map") != AUTO_MAP):
        return f"`adcopilot refresh {folder}` puts today's code into it"
    # Only numbers of our own, or checked ones, stand in what is to be typed: config.json may come from anybody.
    wanted = fixture.transformers if fixture else TRANSFORMERS_TRIED[-1]
    if transformers.__version__ != wanted and (fixture or transformers.__version__ not in TRANSFORMERS_TRIED):
        return f"try `pip install transformers=={wanted}`"
    return (
        "the weights or other files of the folder have changed since: copy or export it again, or, if that was meant, "
        f"`adcopilot check {folder} --write`"
    )


def _tie(folder: Path, dtype: str, fixture) -> str:
    limit = max(MARGIN_LIMITS[dtype], MARGIN_LIMITS[fixture.dtype])
    wider = f"; `adcopilot check {folder} --write --dtype float32` has a closer limit" if dtype != "float32" else ""
    return (
        f"no token can be compared: the first one's logit is {fixture.margins[0]} ahead of the second best, expected "
        f"{limit} or more, below which machines may differ{wider or '; train the model before it is checked'}"
    )


def _count(count: int, fixture) -> str:
    return f"{count} of {len(fixture.tokens)} tokens"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
