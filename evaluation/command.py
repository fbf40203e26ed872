"""Options and steps that the `adcopilot eval …` commands share: which model, which part of a benchmark, where to.

A command adds its own options, then `add_arguments` or those of its parts that it needs; it makes its items and hands
them to `evaluate`, which asks them, scores what is answered, shows the scores and says how the run ended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adcopilot.answering.base import Backend
from adcopilot.answering.items import Item
from adcopilot.damage import Damage, share_of
from adcopilot.errors import UserError

from .run_folder import Answers, read_manifest, read_run
from .running import Outcome, Run, Shard, write_json
from .wording import Wording

__all__ = [
    "BACKENDS",
    "MAX_LOST",
    "add_arguments",
    "add_benchmark_arguments",
    "add_machine_arguments",
    "add_model_arguments",
    "add_run_arguments",
    "evaluate",
    "identity",
    "make_backend",
    "print_json",
    "require",
    "say_lost",
    "score_again",
]

BACKENDS = ("transformers", "vllm", "api")

#: So large a share of answers may be unread, refused or missing before a command ends with 1.
MAX_LOST = 0.1
#: Longest answer with the reasoning before it.
_REASONED_TOKENS = 4096


def add_benchmark_arguments(
    parser: argparse.ArgumentParser, *, data_root: str, score: str = "score the folder of a run again; asks no model"
) -> Any:
    """`--data-root` and `--score`, with these helps; the group "the benchmark", for the command's own options."""
    group = parser.add_argument_group("the benchmark")
    group.add_argument("--data-root", type=Path, metavar="DIR", help=data_root)
    group.add_argument("--score", type=Path, metavar="RUN", help=score)
    return group


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model is asked by which backend, and the run."""
    group = add_model_arguments(parser)
    group.add_argument(
        "--backend",
        default="transformers",
        choices=BACKENDS,
        help="on this machine; vLLM, on this machine or with --base-url a server; any OpenAI-style endpoint "
        "(transformers)",
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


def add_model_arguments(parser: argparse.ArgumentParser) -> Any:
    """`--model`, how it answers, and at what size it sees images; the group of these options."""
    group = parser.add_argument_group("the model")
    group.add_argument("--model", metavar="M", help="model folder or hub name; for an endpoint the name it serves")
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
        UserError: it names the option.
    """
    for name in names:
        if getattr(args, name) is None:
            raise UserError(f"--{name.replace('_', '-')} is missing; see --help")


def make_backend(args: argparse.Namespace) -> Backend:
    """The backend that the options ask for.

    Raises:
        UserError: the model cannot be loaded, or the endpoint's options are wrong.
    """
    images = {name: getattr(args, name) for name in ("image_side", "image_max_pixels", "image_min_pixels")}
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


def _request_fields(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UserError(f"--request is {text[:80]!r}, expected a JSON object such as '{{\"temperature\": null}}'")
    return fields


def identity(backend: Backend, *, benchmark: str, version: int, **settings: Any) -> dict[str, Any]:
    """What a run's answers depend on besides its items. The model's name is not: its digest is, where there is one."""
    described = backend.describe()
    if described.get("model_digest"):
        described = {name: value for name, value in described.items() if name != "model"}
    return {"benchmark": benchmark, "benchmark_version": version, **settings, "backend": described}


def evaluate(
    args: argparse.Namespace,
    *,
    backend: Backend,
    items: Sequence[Item],
    settings: Mapping[str, Any],
    wording: Wording,
    answer_tokens: int,
    finish: Callable[[Path, list[dict[str, Any]]], dict[str, Any]],
    show: Callable[..., int | None],
    extra: Callable[[Item], dict[str, Any]] | None = None,
    truth: Callable[[Item], dict[str, Any]] | None = None,
) -> int:
    """Ask the items, score what is answered, write `results.json`, show it.

    Args:
        args: the command line.
        backend, items: who is asked what.
        settings: `identity`.
        wording: whose words the items are asked with; its text stands in the manifest.
        answer_tokens: longest answer, unless `--max-new-tokens` or `--thinking` says otherwise.
        finish: from a folder and lines to the scores, with what could not be read in `unread` (why → how many) if the
            benchmark reads answers; may write further files into the folder.
        show: prints scores, given them and `as_json`; an exit code of its own, None for 0.
        extra: further fields of an item's line.
        truth: such fields that no answer changes: computed again where the item's `meta` or `reference` has changed.

    Returns:
        The exit code: 1 when questions stayed without an answer, or more than `--max-lost` of the answers are none.

    Raises:
        UserError: the run was ended by it; what was answered is kept, as the message says.
    """
    share_of(args.max_lost, "--max-lost")
    max_new_tokens = args.max_new_tokens or (_REASONED_TOKENS if args.thinking else answer_tokens)
    if args.thinking:
        asked_to_think = backend.family.question("{question}", thinking=True)
        wording = replace(wording, text={**wording.text, "thinking": asked_to_think})
    run = Run(folder=args.output, identity={**settings, "max_new_tokens": max_new_tokens, "thinking": args.thinking})
    selection = {name: getattr(args, name) for name in ("limit", "category", "quick", "skip_missing")}
    selection |= {
        "model": args.model,
        "data_root": str(args.data_root),
        "items": len(items),
        "wording": wording.describe(),
    }
    whole, problems = run.select(items, selection=selection, truth=truth)

    def fields(item: Item) -> dict[str, Any]:
        return {**(truth(item) if truth else {}), **(extra(item) if extra else {})}

    outcome = run.ask(
        items,
        backend,
        max_new_tokens=max_new_tokens,
        shard=Shard.parse(args.shard),
        extra=fields,
        refused_too=args.ask_refused,
    )
    outcome.failed |= problems
    answers = run.answers(benchmark=settings["benchmark"])
    folder, code = run.folder, 0
    if not whole:
        folder = run.folder / "part"
        print(
            f"these {len(items)} questions are not all that {run.folder} was asked: its results.json stays that of "
            f"its own selection, these scores go to {folder}",
            file=sys.stderr,
        )
    read_manifest(run.folder)  # a folder that was removed meanwhile is not made anew with results alone
    if answers.records:
        found = {
            "benchmark": settings["benchmark"],
            "model": args.model,
            **({} if whole else {"part": selection}),
            **answers.counts(),
            "wording": Wording.brief(wording.describe()),
            **finish(folder, answers.records),
        }
        write_json(folder / "results.json", found)
        lost = say_lost(found.get("unread", {}), given=len(answers.records), unit="answers", allowed=args.max_lost)
        code = max(lost, show(found, as_json=args.json) or 0)
    return _report_outcome(outcome, asked=len(items)) or code


def score_again(
    args: argparse.Namespace,
    *,
    benchmark: str,
    score: Callable[[Mapping[str, Any], list[dict[str, Any]]], dict[str, Any]],
    show: Callable[..., int | None],
) -> int:
    """`--score RUN`: score a run again from its folder alone, and show it.

    Args:
        args: the command line; with `--output`, `results.json` is written there too.
        benchmark: whose run it must be.
        score: from the run's manifest and lines to the scores, with `unread` as `evaluate` wants it.
        show: as `evaluate`.

    Returns:
        As `evaluate`.

    Raises:
        UserError: it is no run of this benchmark, is damaged, or has no answers.
    """
    share_of(args.max_lost, "--max-lost")
    found = read_manifest(args.score)["identity"].get("benchmark")
    if found != benchmark:
        raise UserError(f"{args.score}: is a run of {found!r:.60}, expected one of {benchmark}")
    manifest, answers = read_run(args.score)
    if not answers.records:
        raise UserError(f"{args.score}: has no answers yet; run the model first")
    _say_uncounted(args.score, answers)
    scored = {
        "benchmark": benchmark,
        "model": manifest.get("selection", {}).get("model"),
        **answers.counts(),
        **score(manifest, answers.records),
    }
    if args.output is not None:
        write_json(args.output / "results.json", scored)
    lost = {**scored.get("unread", {}), "have no answer yet": answers.asked - len(answers.records)}
    code = say_lost(lost, given=answers.asked, unit="answers", allowed=args.max_lost)
    return max(code, show(scored, as_json=args.json) or 0)


def _say_uncounted(folder: Path, answers: Answers) -> None:
    if answers.note:
        print(answers.note, file=sys.stderr)
    if answers.replaced:
        print(
            f"{folder}: {answers.replaced} answers do not count, their images or questions were replaced since",
            file=sys.stderr,
        )


def say_lost(lost: Mapping[str, int], *, given: int, unit: str, allowed: str | float) -> int:
    """Say on stderr, before anything is shown, what could not be scored as it was meant.

    Args:
        lost: why → how many; each counted once.
        given: of how many.
        unit: what they are.
        allowed: `--max-lost`.

    Returns:
        The exit code: 1 when it is too much.
    """
    damage = Damage(given=given, unit=unit, lost=lost, allowed=share_of(allowed, "--max-lost"), option="--max-lost")
    if damage.count:
        print(damage.line(), file=sys.stderr)
    return int(damage.is_too_much)


def print_json(found: Mapping[str, Any]) -> None:
    """One line of JSON on stdout; what the terminal's encoding lacks is escaped."""
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(found, allow_nan=False)
    print(text)


def _report_outcome(outcome: Outcome, *, asked: int) -> int:
    """Say on stderr how a run ended; the exit code, 1 when questions stayed without an answer or a refusal.

    Raises:
        UserError: the run was ended by it; what was answered is kept, as the message says.
    """
    answered = outcome.answered + outcome.known + outcome.refused
    if outcome.refused:
        print(f"{outcome.refused} questions were refused; --ask-refused asks them again", file=sys.stderr)
    if outcome.failed:
        reasons: dict[str, int] = {}
        for reason in outcome.failed.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        worst = sorted(reasons, key=reasons.get, reverse=True)[:3]
        for reason in worst:
            print(f"no answer to {reasons[reason]} of the questions: {reason}", file=sys.stderr)
    if outcome.stopped is not None:
        raise UserError(f"{outcome.stopped}; {answered} of {asked} answers are kept, start again to go on")
    if outcome.waiting:
        print(f"{outcome.waiting} questions are other processes' and not answered yet", file=sys.stderr)
    if outcome.failed:
        print(f"{answered} of {asked} questions answered; start again to ask the rest", file=sys.stderr)
        return 1
    return 0
