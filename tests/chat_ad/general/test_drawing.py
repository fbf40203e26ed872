"""What every converter shares: the draw, the files around it, and runs that are killed or repeated."""

import hashlib
import json
import subprocess
import sys

import pytest

from adcopilot.chat_ad.draws import rank64

from .conftest import png, talk, write, write_parquet

NAME = "LLaVA_V1.5_mix665k"


def texts(count, words=1):
    tail = " word" * words
    return [{"id": str(n), "conversations": talk(f"Question {n}?", f"Answer {n}.{tail}")} for n in range(count)]


@pytest.fixture
def mix(place):
    """Two hundred conversations without images."""
    return write(place.media / "mix/llava_v1_5_mix665k.json", texts(200)).parent


def draw(place, root, amount, *options):
    assert place.run("llava-mix", root, "--text-only", "--amount", amount, "--overwrite", *options) == 0
    return [record["key"] for record in place.records(NAME)]


def test_a_draw_is_seeded_without_repeats_and_grows(place, mix):
    all_keys = draw(place, mix, "all")
    assert len(set(all_keys)) == len(all_keys) == 200
    assert all_keys != sorted(all_keys, key=lambda key: int(key.split("#")[1]))  # shuffled
    ten = draw(place, mix, 10)
    assert ten == all_keys[:10] == draw(place, mix, 10)
    other = draw(place, mix, 10, "--seed", 1)
    assert other != ten
    # Fair: over many seeds each item is drawn about as often as any other.
    counts = [0] * 200
    for seed in range(200):
        scores = sorted((rank64(f"{seed}:{NAME}:{n}#{n + 1}"), n) for n in range(200))
        for _, n in scores[:20]:
            counts[n] += 1
    assert sum(counts) == 4000
    # Twenty expected each, standard deviation 4.2.
    assert 4 <= min(counts) <= max(counts) <= 42


def test_same_options_same_bytes_and_the_manifest_says_of_what(place, mix, capsys):
    options = ["--text-only", "--amount", 50, "--seed", 3]
    assert place.run("llava-mix", mix, *options) == 0
    files = {path.name: path.read_bytes() for path in place.output.iterdir()}
    assert set(files) == {f"{NAME}.jsonl", f"{NAME}.dropped.jsonl", f"{NAME}.manifest.json", "dataset_info.json"}
    manifest = place.manifest(NAME)
    source = mix / "llava_v1_5_mix665k.json"
    assert manifest["files"] == {
        source.name: {
            "bytes": source.stat().st_size,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
    }
    assert manifest["sha256"] == hashlib.sha256(files[f"{NAME}.jsonl"]).hexdigest()
    expected = {"dataset": NAME, "amount": 50, "seed": 3, "records": 50, "items": 200, "usable": 200, "version": 1}
    assert {key: manifest[key] for key in expected} == expected
    assert manifest["tasks"] == {"dialogue": 50}
    assert str(place.media) not in files[f"{NAME}.manifest.json"].decode()
    assert place.run("llava-mix", mix, *options) == 0
    assert {path.name: path.read_bytes() for path in place.output.iterdir()} == files
    # Other options never replace a result unasked.
    capsys.readouterr()
    assert place.run("llava-mix", mix, "--text-only", "--amount", 50, "--seed", 4) == 2
    assert "made with seed 3, now 4; choose another --output, or add --overwrite" in capsys.readouterr().err
    write(source, texts(199))
    assert place.run("llava-mix", mix, *options) == 2
    assert "made with files" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.output.iterdir()} == files


def test_registration_in_the_output_keeps_other_sets(place, mix):
    place.output.mkdir()
    (place.output / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    draw(place, mix, 5)
    found = json.loads((place.output / "dataset_info.json").read_text())
    assert found["mine"] == {"file_name": "mine.json"}
    assert found[NAME]["file_name"] == f"{NAME}.jsonl"


def test_bad_options(place, mix, capsys):
    for root, amount, says in (
        (mix, 0, "--amount 0: expected 1 or more"),
        (mix, 201, "--amount 201: LLaVA_V1.5_mix665k in"),
        ("/nowhere", "all", "--root /nowhere: no such folder"),
    ):
        assert place.run("llava-mix", root, "--text-only", "--amount", amount) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(SystemExit):
        place.run("llava-mix", mix, "--amount", "many")
    assert "expected a number or `all`" in capsys.readouterr().err


def test_nothing_usable_is_an_error_that_says_where_the_reasons_are(place, mix, capsys):
    assert place.run("llava-mix", mix) == 2  # all are text alone
    assert "none of the 200 items" in capsys.readouterr().err
    assert len(place.dropped(NAME)) == 200
    assert not (place.output / f"{NAME}.jsonl").exists()


def test_output_inside_the_data_set_or_not_writable(place, mix, capsys):
    place.output = mix / "out"
    assert place.run("llava-mix", mix, "--text-only") == 2
    assert "inside the data set" in capsys.readouterr().err
    assert not place.output.exists()
    place.output = place.media / "file"
    place.output.write_text("")
    assert place.run("llava-mix", mix, "--text-only") == 2
    assert "--output" in capsys.readouterr().err


def test_the_source_may_be_read_only(place, clevr):
    before = {path: path.stat().st_mtime_ns for path in sorted(clevr.rglob("*"))}
    for path in clevr.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert place.run("clevr-change", clevr, "--amount", "all") == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(clevr.rglob("*"))} == before


def test_names_that_are_long_or_not_ascii(place):
    root = place.media / "ünïcödé 画像"
    names = ["è" * 100 + ".png", "with space #1.png", "画/像.png"]
    rows = []
    for name in names:
        write(root / name, png())
        rows.append({"id": "é", "image": name, "conversations": talk("<image>?", "Ü.")})
    rows.append({"id": "x", "image": "n" * 300 + ".png", "conversations": talk("<image>?", "Ü.")})
    write(root / "llava_v1_5_mix665k.json", rows)
    assert place.run("llava-mix", root) == 2
    assert place.run("llava-mix", root, "--skip-problems") == 0
    assert sorted(path for record in place.records(NAME) for path in record["images"]) == sorted(
        f"{root.name}/{name}" for name in names
    )
    assert [reason for _, _, reason in place.dropped(NAME)] == ["missing image"]


@pytest.mark.parametrize(
    ("command", "content", "says"),
    [
        ("olmo-sft", b"PAR1 not really", "cannot be read as Parquet"),
        ("olmo-sft", None, "Parquet files of the split 'train': none"),
        ("magicbrush", {"a": 1}, "no column 'img_id', expected img_id, turn_index, instruction; it has a"),
        ("pixmo-cap", {"image_url": "x"}, "no column 'caption'"),
    ],
)
def test_broken_parquet(place, capsys, command, content, says):
    root = place.media / "source"
    root.mkdir()
    if isinstance(content, dict):
        write_parquet(root / "train-0.parquet", [content])
    elif content is not None:
        write(root / "train-0.parquet", content)
    options = ["--download"] if command == "pixmo-cap" else []
    assert place.run(command, root, *options, images=command != "olmo-sft") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


# Runs the command again and again in children of one process, each killed just before its n-th sync or rename, and
# says after each what lay in the output under its own name and what the next, unharmed run made of it.
KILLER = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
from adcopilot import cli
import adcopilot.chat_ad.general.magicbrush, scipy.ndimage, pyarrow.parquet

output, arguments = Path(sys.argv[1]), sys.argv[2:]

def child(stop):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = 0
    def counted(call):
        def wrapped(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return wrapped
    os.replace, os.fsync = counted(os.replace), counted(os.fsync)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(cli.main(arguments))

def files():
    found = {}
    for path in sorted(output.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            found[str(path.relative_to(output))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found

assert child(0) == 0
print(json.dumps([0, {}, files()]), flush=True)
stop = code = 0
while code in (0, -signal.SIGKILL) and (stop == 0 or code):
    stop += 1
    shutil.rmtree(output)
    code = child(stop)
    partly = files() if output.exists() else {}
    assert child(0) == 0
    print(json.dumps([code, partly, files()]), flush=True)
"""


def test_killed_before_every_single_rename_the_next_run_gives_the_same_bytes(place, brush):
    where = ["--root", str(brush), "--output", str(place.output), "--media-dir", str(place.media)]
    arguments = [str(place.output), "data", "convert", "magicbrush", *where, "--amount", "all"]
    done = subprocess.run([sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (_, _, expected), *runs = map(json.loads, done.stdout.splitlines())
    assert len(expected) == 4 + 15  # images and masks of five turns
    assert [code for code, _, _ in runs[-2:]] == [-9, 0]
    assert len(runs) > 20
    for _, partly, after in runs:
        assert partly.items() <= expected.items()  # what is there under its own name is whole
        assert after == expected
