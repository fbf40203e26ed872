"""`adcopilot demo`: a web page over a model on this machine, or behind an OpenAI-style endpoint."""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..cli.saying import say
from ..errors import UserError
from ..inspect.command import add_map_arguments, map_options, map_settings
from ..inspect.hub import model_title
from ..inspect.loading import check_folder
from ..inspect.opening import NO_MODEL, choose_judge, folder_of_templates, open_engine, set_up
from ..inspect.pairs import find_images, mvtec_queries
from ..line.marks import read_marks
from .limits import MIB, Limits
from .listening import check_port
from .store import Store

if TYPE_CHECKING:  # gradio and torch take seconds: only once the command line is known to be right
    from ..anomaly_map.comparing import Mapper
    from ..inspect.judging import Judge
    from ..inspect.opening import Setup
    from .engines.maps import PageMap
    from .questions import PageQuestion
    from .service import Engine
    from .tabs.many_parts import ServerFolder

#: Where the password of `--auth NAME` is.
PASSWORD_VARIABLE = "ADCOPILOT_DEMO_PASSWORD"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    who = parser.add_argument_group("who answers")
    who.add_argument(
        "--model",
        required=True,
        metavar="DIR|ID|none",
        help="folder or hub id of a model, or of a line (`adcopilot adapt`, `adcopilot calibrate`), whose templates, "
        "threshold and map are used; with --endpoint, the model's name there; none for the anomaly map alone",
    )
    who.add_argument("--endpoint", metavar="URL", help="OpenAI-style endpoint, for example http://127.0.0.1:8000/v1")
    who.add_argument("--key-variable", metavar="NAME", help="environment variable with the endpoint's key")
    who.add_argument("--family", help="family of the endpoint's model, where its name does not say it")
    who.add_argument("--vllm", action="store_true", help="the endpoint is a vLLM server")
    who.add_argument("--no-score", action="store_true", help="do not ask the endpoint for probabilities")
    who.add_argument("--concurrency", type=int, default=8, help="questions under way at an endpoint (8)")
    how = parser.add_argument_group("how")
    how.add_argument("--thinking", action="store_true", help="ask for the reasoning before each answer")
    how.add_argument(
        "--threshold",
        type=float,
        help="a score from here on is a defect (the folder's; else 0.5 for a model, and none for a map alone)",
    )
    how.add_argument("--max-new-tokens", type=int, default=512, help="longest answer (512)")
    how.add_argument("--image-max-pixels", type=int, help="as in training (the model folder's, else 589824)")
    how.add_argument("--image-min-pixels", type=int, help="as in training (the model folder's, else 1024)")
    how.add_argument("--batch-size", type=int, default=4, help="pairs of a folder answered together (4)")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto)")
    how.add_argument("--dtype", default="auto", help="auto (bfloat16 on a GPU), float32, bfloat16, float16")
    add_map_arguments(parser)
    where = parser.add_argument_group("who may see it")
    where.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    where.add_argument("--port", type=int, help="port to listen on (the first free one from 7860 on)")
    where.add_argument(
        "--auth",
        action="append",
        default=[],
        metavar="NAME[:PASSWORD]",
        help=f"ask for a login; several times for several people; the password may be in {PASSWORD_VARIABLE}",
    )
    bring = parser.add_argument_group("what visitors may bring")
    bring.add_argument("--max-upload-mb", type=int, default=64, help="largest file (64)")
    bring.add_argument("--max-megapixels", type=float, default=50, help="largest picture (50)")
    bring.add_argument("--max-files", type=int, default=2000, help="most pictures of a folder or zip (2000)")
    bring.add_argument("--max-folder-mb", type=int, default=2048, help="largest folder or zip, unpacked (2048)")
    bring.add_argument("--max-stored-mb", type=int, default=8192, help="files of all visitors together (8192)")
    bring.add_argument("--keep-minutes", type=float, default=60, help="unused files are deleted after (60)")
    bring.add_argument("--queue", type=int, default=256, help="questions that may wait (256)")
    bring.add_argument("--folder", type=Path, help="a folder of this machine that visitors may have inspected")
    bring.add_argument(
        "--template-dir", type=Path, help="pictures of good parts for --folder (not for MVTec's layout)"
    )
    bring.add_argument(
        "--marks",
        type=Path,
        metavar="FILE",
        help="let visitors say that a verdict was wrong: JSON lines for `adcopilot calibrate --marks`; marked uploads "
        "are kept in the folder FILE-pictures beside it",
    )


def run(args: argparse.Namespace) -> None:
    limits = Limits(
        upload_bytes=args.max_upload_mb * MIB,
        pixels=int(args.max_megapixels * 1_000_000),
        files=args.max_files,
        unpacked_bytes=args.max_folder_mb * MIB,
        stored_bytes=args.max_stored_mb * MIB,
        seconds=int(args.keep_minutes * 60),
    )
    auth = logins(args.auth)
    check_marks(args.marks)
    for name in ("queue", "concurrency", "max_new_tokens", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(args, name)}, expected 1 or more")
    if args.port is not None and not 0 < args.port < 65536:
        raise UserError(f"--port is {args.port}, expected 1 to 65535")
    if args.port is not None:
        check_port(args.host, args.port)
    found = None if args.endpoint else set_up_here(args)
    inspection = found and found.inspection
    good_parts = folder_of_templates(found.folder, inspection) if inspection and inspection.templates else None
    folder = check_server_folder(args, good_parts)
    judge = found.judge if found else choose_judge(None, threshold=args.threshold, source=None, no_model=False)
    if found and not found.no_model:
        check_folder(found.folder)
    store = Store(seconds=limits.seconds, stored_bytes=limits.stored_bytes)
    try:
        # Gradio reads these when it is imported, and serves all that lies there. What it writes while an upload comes
        # in goes to the system's temporary folder, where nothing would delete it.
        os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = str(store.served)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        tempfile.tempdir = str(store.work)
        from .examples import read_examples
        from .page import build_page
        from .server import serve
        from .service import GoodParts, Service
        from .tabs.marking import Marks

        service = Service(
            engine=make_engine(args, found) if found else make_endpoint_engine(args, judge),
            store=store,
            limits=limits,
            judge=judge,
            thinking=args.thinking,
            inspects=asked_for(found),
            templates_each=found.templates_each if found else args.map_templates or 1,
            good_parts=good_parts and GoodParts(good_parts),
            marks=args.marks and Marks(args.marks, most_bytes=limits.stored_bytes),
        )
        page = build_page(service, examples=read_examples(), folder=folder, queue=args.queue)
        serve(page, store=store, limits=limits, host=args.host, port=args.port, auth=auth)
    finally:
        store.close()


def logins(values: list[str]) -> list[tuple[str, str]]:
    """(name, password) of each `--auth`.

    Raises:
        UserError: a name or a password is missing, or a name is there twice.
    """
    found = []
    for value in values:
        name, colon, password = value.partition(":")
        password = password if colon else os.environ.get(PASSWORD_VARIABLE, "")
        if not name or not password:
            raise UserError(f"--auth {name or value}: no password; write NAME:PASSWORD, or set {PASSWORD_VARIABLE}")
        if name in dict(found):
            raise UserError(f"--auth {name}: is there twice; leave one out")
        found.append((name, password))
    return found


def check_marks(path: Path | None) -> None:
    """Look at the file of marks before anybody takes the trouble to mark.

    Raises:
        UserError: it is something else, or there cannot be such a file.
    """
    if path is None:
        return
    remedy = "give another --marks FILE, such as marks.jsonl"
    if not path.suffix:
        raise UserError(f"--marks {path}: is no name of a file, expected one with a suffix; {remedy}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        has_marks = path.stat().st_size > 0
    except OSError as error:
        raise UserError(f"--marks {path}: cannot be written ({error.strerror}); {remedy}") from None
    if has_marks:
        try:
            read_marks(path)
        except UserError as error:
            raise UserError(f"{error}; {remedy}") from None


def check_server_folder(args: argparse.Namespace, good_parts: Path | None = None) -> ServerFolder | None:
    """The folder that visitors may have inspected, looked into before anything slow.

    Args:
        good_parts: of the line, for a folder that brings none.

    Raises:
        UserError: there is no such folder, it has no images, or nobody says what to compare with.
    """
    if args.folder is None:
        if args.template_dir is not None:
            raise UserError("--template-dir goes with --folder; visitors add their own pictures of good parts")
        return None
    if args.template_dir is None:
        try:
            mvtec_queries(args.folder)
        except UserError as error:
            if good_parts is None:
                raise UserError(f"{error}; or give --template-dir with pictures of good parts") from None
            find_images(args.folder)
            args.template_dir = good_parts
    else:
        find_images(args.folder)
        find_images(args.template_dir)
    from .tabs.many_parts import ServerFolder

    templates = args.template_dir.resolve() if args.template_dir else None
    return ServerFolder(queries=args.folder.resolve(), templates=templates)


def set_up_here(args: argparse.Namespace) -> Setup:
    """What answers on this machine, as `adcopilot inspect` would decide it.

    Raises:
        UserError: as `set_up`, or a map that verdicts need is off.
    """
    found = set_up(
        args.model,
        map=args.map,
        threshold=args.threshold,
        templates_each=args.map_templates,
        **map_options(args),
    )
    found.check_left()
    sizes = {name: getattr(args, name) for name in ("image_max_pixels", "image_min_pixels")}
    for name, value in found.asked(sizes, threshold=args.threshold).items():
        setattr(args, name, value)
    if found.note:
        say(found.note)
    return found


def asked_for(found: Setup | None) -> PageQuestion:
    """What the page asks for a verdict; of a line, what it was calibrated with."""
    from .questions import INSPECT, question_of_line

    inspection = found and found.inspection
    return question_of_line(inspection.asked.get("question")) if inspection else INSPECT


def make_engine(args: argparse.Namespace, found: Setup) -> Engine:
    """The model on this machine with its map, loaded, or the map alone.

    Raises:
        UserError: the folder cannot be used.
    """
    names = ("device", "dtype", "batch_size", "max_new_tokens", "image_max_pixels", "image_min_pixels")
    options = {name: getattr(args, name) for name in names}
    inspector = open_engine(
        found.folder, no_model=found.no_model, map=found.map, judge=found.judge, attention="sdpa", **options
    )
    inspector.bits = found.bits
    if found.no_model:
        from .engines.maps import MapEngine

        title = "the anomaly map" if args.model == NO_MODEL else model_title(found.folder)
        return MapEngine(inspector=inspector, title=title)
    from .engines.local import LocalEngine
    from .questions import wording

    engine = LocalEngine(inspector=inspector)
    inspector.question = wording(asked_for(found), templates=1, family=engine.family, thinking=args.thinking)
    return engine


def make_endpoint_engine(args: argparse.Namespace, judge: Judge) -> Engine:
    """The model behind an endpoint, and a map that is made here.

    Raises:
        UserError: the endpoint's settings cannot be used.
    """
    from ..answering.api import ApiBackend
    from .engines.endpoint import EndpointEngine
    from .questions import INSPECT, wording

    backend = ApiBackend(
        base_url=args.endpoint,
        option="--endpoint",
        model=args.model,
        family=args.family,
        vllm=args.vllm,
        key_variable=args.key_variable,
        concurrency=args.concurrency,
        option_logprobs=not args.no_score,
        # A person is waiting: say soon that there is no answer.
        attempts=3,
        longest_wait=5.0,
        give_up=args.concurrency,
        image_max_pixels=args.image_max_pixels,
        image_min_pixels=args.image_min_pixels,
    )
    question = wording(INSPECT, templates=1, family=backend.family, thinking=args.thinking)
    return EndpointEngine(
        backend=backend,
        question=question,
        judge=judge,
        max_new_tokens=args.max_new_tokens,
        maps=page_map(args),
    )


def page_map(args: argparse.Namespace) -> PageMap | None:
    """The map beside an endpoint's answers; None with `--map off`.

    Raises:
        UserError: an option of it is out of its range, or its backbone cannot be loaded.
    """
    if args.map == "off":
        return None
    from .engines.maps import PageMap

    @cache
    def make() -> Mapper:
        from ..anomaly_map.comparing import Mapper

        return Mapper(map_settings(args, None))

    given = (args.map, args.map_backbone, args.map_search, args.box_growth, args.image_max_pixels)
    if any(one is not None for one in given):  # else nothing could be wrong, and torch waits for the first map
        make()
    return PageMap(make)
