"""Options that the `adcopilot eval …` commands share: which model, which part of a benchmark, where to.

A command adds its own options, then `add_asking_arguments` or those of its parts that it needs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from adcopilot.answering.base import Backend
from adcopilot.errors import UserError

__all__ = [
    "BACKENDS",
    "MAX_LOST",
    "add_asking_arguments",
    "add_backend_arguments",
    "add_benchmark_arguments",
    "add_machine_arguments",
    "add_run_arguments",
    "asks_map",
    "make_backend",
    "require",
]

BACKENDS = ("transformers", "vllm", "api", "map")

#: So large a share of answers may be unread, refused or missing before a command ends with 1.
MAX_LOST = 0.1
#: Sizes of images, of every backend.
IMAGES = ("image_side", "image_max_pixels", "image_min_pixels")


def add_benchmark_arguments(
    parser: argparse.ArgumentParser, *, data_root: str, score: str = "score the folder of a run again; asks no model"
) -> Any:
    """`--data-root` and `--score`, with these helps; the group "the benchmark", for the command's own options."""
    group = parser.add_argument_group("the benchmark")
    group.add_argument("--data-root", type=Path, metavar="DIR", help=data_root)
    group.add_argument("--score", type=Path, metavar="RUN", help=score)
    return group


def add_asking_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model is asked by which backend, and the run."""
    group = add_backend_arguments(parser)
    group.add_argument(
        "--backend",
        default="transformers",
        choices=BACKENDS,
        help="on this machine; vLLM, on this machine or with --base-url a server; any OpenAI-style endpoint; no model "
        "but the anomaly map (transformers)",
    )
    group.add_argument("--family", help="prompts and box format: adcopilot, qwen2.5-vl, qwen3-vl, internvl, seed, …")
    here = add_machine_arguments(parser, note=" (--backend transformers)")
    here.add_argument("--batch-size", type=int, default=16, metavar="N", help="questions answered together (16)")
    here.add_argument("--no-reuse", action="store_true", help="encode the images again for each of their questions")
    here.add_argument(
        "--attention", default="sdpa", choices=("sdpa", "eager", "flash_attention_2"), help="kernels (sdpa)"
    )
    here.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the model")
    _add_endpoint_arguments(parser)
    add_run_arguments(parser)


def add_backend_arguments(parser: argparse.ArgumentParser) -> Any:
    """`--model`, how it answers, and at what size it sees images; the group of these options."""
    group = parser.add_argument_group("the model")
    group.add_argument(
        "--model",
        metavar="M",
        help="model folder or hub name; for an endpoint the name it serves; none for the anomaly map alone",
    )
    group.add_argument("--thinking", action="store_true", help="ask for <think>…</think><answer>…</answer>")
    group.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer")
    group.add_argument(
        "--image-side", type=int, metavar="N", help="shrink images to so many pixels on the longer side"
    )
    group.add_argument("--image-max-pixels", type=int, metavar="N", help="largest area of an image (the model's "
                       "own; 2097152 at an endpoint whose model resizes in a way of its own)")  # fmt: skip
    group.add_argument("--image-min-pixels", type=int, metavar="N", help="smallest area of an image (the model's own)")
    return group


def add_machine_arguments(parser: argparse.ArgumentParser, *, note: str = "") -> Any:
    """`--device` and `--dtype`; the group of these options, `note` in its title."""
    here = parser.add_argument_group(f"the model on this machine{note}")
    here.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto)")
    here.add_argument("--dtype", default="auto", help="auto (bfloat16 on a GPU), float32, bfloat16, float16")
    return here


def _add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    there = parser.add_argument_group("the model at an endpoint (--backend vllm, --backend api)")
    there.add_argument("--base-url", metavar="URL", help="as OpenAI clients take it: http://localhost:8000/v1")
    there.add_argument(
        "--key-variable", metavar="NAME", help="environment variable with the key (ADCOPILOT_API_KEY where it is set)"
    )
    there.add_argument("--concurrency", type=int, default=16, metavar="N", help="requests at a time (16)")
    there.add_argument("--timeout", type=float, default=180.0, metavar="S", help="seconds for one answer (180)")
    there.add_argument(
        "--option-logprobs", action="store_true", help="ask an endpoint for probabilities (vllm is always asked)"
    )
    there.add_argument("--limit-field", default="max_tokens", metavar="NAME", help="field for the longest answer "
                       "(max_tokens; max_completion_tokens for newer models of OpenAI's)")  # fmt: skip
    there.add_argument("--request", metavar="JSON", help="further fields of each request; null takes one out")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """`--output` and what part of the benchmark a process does."""
    group = parser.add_argument_group("the run")
    group.add_argument("--output", type=Path, metavar="RUN", help="folder of the run; continues an earlier one")
    group.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    group.add_argument("--category", action="append", default=[], metavar="NAME", help="only this product or dataset")
    group.add_argument(
        "--quick", type=int, nargs="?", const=500, metavar="N", help="only N images (500) that stand for all"
    )
    group.add_argument("--shard", metavar="I/N", help="only this part, beside other processes on the same run")
    group.add_argument("--skip-missing", action="store_true", help="leave out what has no image on the disk")
    group.add_argument("--ask-refused", action="store_true", help="ask again what the endpoint has declined to answer")
    group.add_argument(
        "--max-lost",
        default=MAX_LOST,
        metavar="SHARE",
        help=f"exit 1 when more of the answers cannot be read, were refused or are missing ({MAX_LOST:g})",
    )
    group.add_argument("--json", action="store_true", help="print the scores as one JSON object")


def require(args: argparse.Namespace, *names: str) -> None:
    """Refuse a command line without one of these options.

    Raises:
        UserError: it names the option; or there is no model where one is needed.
    """
    if asks_map(args) and not hasattr(args, "boxes"):
        raise UserError(
            "an anomaly map says where a query differs from its template, and these questions want words: give "
            "--model DIR, or ask the map with adcopilot eval mmad-bbox or adcopilot eval records"
        )
    for name in names:
        if getattr(args, name) is None:
            raise UserError(f"--{name.replace('_', '-')} is missing; see --help")


def asks_map(args: argparse.Namespace) -> bool:
    """Whether the anomaly map answers instead of a model: `--backend map`, or as in `adcopilot inspect` `--model none`
    of no endpoint."""
    backend = getattr(args, "backend", "")
    return backend == "map" or (getattr(args, "model", None) == "none" and backend == "transformers")


def make_backend(args: argparse.Namespace) -> Backend:
    """The backend that the options ask for.

    Raises:
        UserError: the model cannot be loaded, or the endpoint's options are wrong.
    """
    if asks_map(args):
        from .backends.map_backend import MapBackend
        from .map_options import open_maps

        return MapBackend(open_maps(args, folder=None))
    images = {name: getattr(args, name) for name in IMAGES}
    if args.backend == "transformers":
        from .backends.transformers_backend import TransformersBackend

        return TransformersBackend(
            model=args.model,
            family=args.family,
            batch_size=args.batch_size,
            reuse=not args.no_reuse,
            device=args.device,
            dtype=args.dtype,
            attention=args.attention,
            trust_remote_code=args.trust_remote_code,
            **images,
        )
    if args.backend == "vllm" and args.base_url is None:
        from .backends.vllm_backend import VllmBackend

        return VllmBackend(
            model=args.model, family=args.family, batch_size=args.batch_size, dtype=args.dtype, **images
        )
    from adcopilot.answering.api import ApiBackend

    vllm = args.backend == "vllm"
    return ApiBackend(
        model=args.model,
        base_url=args.base_url,
        family=args.family,
        vllm=vllm,
        key_variable=args.key_variable,
        concurrency=args.concurrency,
        timeout=args.timeout,
        option_logprobs=vllm or args.option_logprobs,
        limit_field=args.limit_field,
        extra=_request_fields(args.request),
        **images,
    )


#: Of a request: with others of these it would be about other images, of another model, or could not be read.
_OWN_FIELDS = {"messages", "model", "n", "stream"}


def _request_fields(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UserError(f"--request is {text[:80]!r}, expected a JSON object such as '{{\"temperature\": null}}'")
    if own := _OWN_FIELDS & fields.keys():
        raise UserError(f"--request has {', '.join(sorted(own))}, which this command writes itself; leave it out")
    return fields
