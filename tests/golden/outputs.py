"""The areas of the goldens. Each function writes below an empty folder and returns name → bytes or text."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from adcopilot import __version__, cli
from adcopilot.chat_ad.pipeline.build import build
from adcopilot.chat_ad.recipe.reading import load_recipe
from adcopilot.sample.generate import grpo_splits, standard_splits, write_sample

from ..chat_ad.builds import RECIPE, write_recipe
from ..chat_ad.generation.conftest import Endpoint as TextEndpoint
from ..chat_ad.trees import DATASETS, LAYOUTS
from ..chat_ad.trees import build as build_tree
from ..evaluation.backends.endpoint import Endpoint, completion
from ..evaluation.captions.test_captions_dataset import pairs_folder
from ..evaluation.mmad import mini_mmad
from ..evaluation.report.report_runs import make_runs
from ..evaluation.unipcb import mini_unipcb
from ..evaluation.unipcb.test_unipcb_command import perfect
from ..inspect.conftest import part

ROOT = Path(__file__).resolve().parents[2]
#: Every task at once, over every layout that a reader knows.
TASKS = {"caption": 1, "dialogue": 1, "mc": 1, "loc": 1, "think": 1, "verdict": 1}
#: What varies by nature → what stands there instead.
VARYING = (
    (re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?( ?UTC|Z|\+00:00)?"), "DATE"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])"), "VERSION"),
    (re.compile(r'("(?:seconds|duration|elapsed)[a-z_]*": )[\d.e+-]+'), r"\1SECONDS"),
    (re.compile(r'("recipe_digest": )"[0-9a-f]+"'), r"\1DIGEST"),  # the folders' names are part of it
)
#: The last digits of a number depend on the processor's instructions.
LONG_NUMBER = re.compile(r"-?\d+\.\d{9,}(?:e-?\d+)?")
#: Of packages, in a record of what a run used.
PACKAGE_VERSIONS = re.compile(r'("versions": )\{[^{}]*\}')


def call(*words, code: int = 0) -> str:
    """What `adcopilot …` prints on stdout."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            found = cli.main([str(word) for word in words])
        except SystemExit as end:  # argparse after its help
            found = end.code or 0
    assert found == code, err.getvalue()
    return out.getvalue()


def plain(data: bytes, folder: Path) -> bytes:
    """A file without what varies by nature; pictures as they are."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    text = PACKAGE_VERSIONS.sub(r'\1"VERSIONS"', text.replace(str(folder), "FOLDER"))
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return LONG_NUMBER.sub(lambda number: f"{float(number[0]):.7g}", text).encode()


def files(output: Path, folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """All files below `output`, hidden folders and names that begin with one of `but` left out."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_file() and not name.startswith((".", *but)) and "/." not in name:
            found[name] = plain(path.read_bytes(), folder)
    return found


def builds(folder: Path, *, workers: int = 1) -> dict[str, bytes]:
    """`adcopilot data build`: the recipe of its tests, and one over every layout with every task."""
    build(load_recipe(write_recipe(folder)), folder / "small", workers=workers)
    datasets = {}
    for name in LAYOUTS:
        root = build_tree(name, folder / "layouts")
        datasets[name] = {"reader": DATASETS[name], "root": str(root), "filter": False}
        if name == "vision":  # which has no folder of good parts
            datasets[name]["options"] = {"unannotated": "normal"}
    recipe = {
        "seed": 3,
        "shard_images": 16,
        "datasets": datasets,
        "outputs": {f"All_{name}": {"datasets": name, "tasks": TASKS} for name in LAYOUTS},
    }
    path = folder / "all.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    build(load_recipe(path), folder / "all", workers=workers)
    found = files(folder / "small", folder)
    return found | {f"all/{name}": data for name, data in files(folder / "all", folder).items()}


def written_by_an_endpoint(folder: Path) -> dict[str, bytes]:
    """The same small recipe with texts of an endpoint."""
    endpoint = TextEndpoint()
    try:
        generator = {"kind": "endpoint", "url": endpoint.url, "model": "local-test", "first_wait": 0.01, "timeout": 60}
        build(load_recipe(write_recipe(folder, RECIPE, generator=generator)), folder / "out")
    finally:
        endpoint.server.shutdown()
        endpoint.server.server_close()
    return files(folder / "out", folder, but=("answers/answers",))  # which come as they are answered


def tables(folder: Path) -> dict[str, bytes]:
    """`adcopilot data index`, `filter` and `pair` of every layout: rows as JSON, since Parquet names its writer."""
    found = {}
    for name in LAYOUTS:
        root = build_tree(name, folder / "layouts")
        index, kept, paired = (folder / f"{name}.{step}.parquet" for step in ("index", "filter", "pair"))
        call("data", "index", DATASETS[name], "--root", root, "--output", index)
        call("data", "filter", index, "--output", kept, "--allow", "blurred")
        call("data", "pair", kept, "--output", paired, "--skip-unpaired")
        for path in (index, kept, paired):
            rows = pq.read_table(path).to_pylist()
            text = "".join(json.dumps(row, default=lambda value: value.hex()) + "\n" for row in rows)
            found[path.name] = plain(text.encode(), folder)
    return found


def sample(folder: Path) -> dict[str, bytes]:
    """`adcopilot data sample`, for stages 0 to 2 and for stage 3."""
    write_sample(folder / "sft", standard_splits(24, test_count=6), seed=2)
    write_sample(folder / "rl", grpo_splits(12, test_count=4), seed=2)
    return files(folder, folder)


def evaluation(folder: Path) -> dict[str, bytes]:
    """`adcopilot eval` of the miniatures of each benchmark, and the report about all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # a question's key has the names of its pictures
        runs = make_runs(patch, mini_mmad.build(Path("MMAD")), Path("runs"))
        patch.setenv("PATH", str(folder))  # METEOR takes a quarter of a minute
        api = ("--backend", "api", "--model", "some-vlm", "--concurrency", 1)
        with Endpoint(perfect) as endpoint:
            root, run = mini_unipcb.build(Path("unipcb")), "runs/unipcb"
            scorers = ("--sbert", "none", "--bertscore", "none")
            call("eval", "unipcb", "--data-root", root, *api, "--base-url", endpoint.url, "--output", run, *scorers)
        captions = ["The cup is gone.", "The lamp was moved.", "There is a red car."]
        with Endpoint(lambda body, number: completion(captions[number])) as endpoint:
            root, run = pairs_folder(Path("captions")), "runs/captions"
            call("eval", "caption", "--data-root", root, *api, "--base-url", endpoint.url, "--output", run)
        call("eval", "report", *runs, "runs/unipcb", run, "--output", "runs/report", "--against", "published")
    found = files(folder / "runs", folder)
    # by the time when a file was changed
    return {name: data for name, data in found.items() if not name.endswith("image-digests.json")}


def inspection(folder: Path) -> dict[str, str]:
    """`adcopilot inspect` with the tiny preset, scores to two digits."""
    (folder / "test").mkdir()
    part(0).save(folder / "good.png")
    for number in range(4):
        part(20 + number, size=(84 + 28 * number, 56), defect=number % 2 == 1).save(folder / "test" / f"{number}.png")
    call("init", "--preset", "tiny", "--output", folder / "model")
    model = ("--model", folder / "model", "--device", "cpu", "--dtype", "float32")
    pair = ("--template", folder / "good.png", "--query-dir", folder / "test")
    printed = call("inspect", *model, *pair, "--json")
    return {"inspect": re.sub(r"(\d\.\d\d)\d+", r"\1", plain(printed.encode(), folder).decode())}


def helps(folder: Path) -> dict[str, str]:
    """`--help` of every command, found by following what each of them lists."""
    found, todo = {}, [()]
    while todo:
        words = todo.pop()
        text = found[" ".join(("adcopilot", *words))] = call(*words, "--help")
        if listed := re.search(r"^commands:\n((?:  .*\n)+)", text, re.MULTILINE):
            todo += [(*words, name) for name in re.findall(r"^  ([a-z][a-z-]*) ", listed[1], re.MULTILINE)]
    return found


def errors(folder: Path) -> dict[str, str]:
    """Every text that the product raises, its values as {}; sorted, so that where it is raised is no matter."""
    texts = set()
    for root in ("plugin", "evaluation", "data"):
        for path in (ROOT / root).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                name = getattr(getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", ""))
                if isinstance(node, ast.Call) and name.endswith("Error") and node.args:
                    texts |= set(_texts(node.args[0]))
    return {"errors": "\n".join(sorted(texts)) + "\n"}


def _texts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(one.value if isinstance(one, ast.Constant) else "{}" for one in node.values)]
    if isinstance(node, ast.BinOp):
        return ["{}".join(_texts(node.left) + _texts(node.right))]
    return []


AREAS = {one.__name__: one for one in (builds, written_by_an_endpoint, tables, sample, evaluation, inspection, helps,
                                       errors)}  # fmt: skip
