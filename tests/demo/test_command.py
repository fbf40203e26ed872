"""`adcopilot demo` refuses what cannot work, in one line, before anything slow."""

import json
import socket

import pytest

from adcopilot.cli import main
from adcopilot.demo.command import logins
from adcopilot.demo.listening import check_port
from adcopilot.errors import UserError

from ..inspect.conftest import part
from .running import demo


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """What the command sets for its whole process is put back."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setenv("GRADIO_EXAMPLES_CACHE", "")


@pytest.fixture
def refused(capsys):
    """What the command says, on one line, when it ends with an error."""

    def by(*words):
        assert main(["demo", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: "), said
        assert said.count("\n") == 1
        return said.removeprefix("error: ").rstrip()

    return by


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere"], "nowhere: no such model folder"),
        (["--model", "m", "--endpoint", "ftp://x"], "--endpoint is ftp://x"),
        (["--model", "m", "--endpoint", "http://x/v1", "--family", "qwen"], "--family is 'qwen'"),
        (["--model", "m", "--endpoint", "http://x/v1", "--key-variable", "NO_KEY"], "environment variable NO_KEY"),
        (["--model", "m", "--threshold", "2"], "--threshold is 2.0, expected 0 to 1"),
        (["--model", "m", "--queue", "0"], "--queue is 0, expected 1 or more"),
        (["--model", "m", "--max-megapixels", "500"], "--max-megapixels: 500,000,000 pixels, expected at most"),
        (["--model", "m", "--max-upload-mb", "0"], "the limit of upload bytes is 0, expected 1 or more"),
        (["--model", "m", "--port", "99999"], "--port is 99999, expected 1 to 65535"),
        (["--model", "m", "--auth", "anna"], "--auth anna: no password"),
        (["--model", "m", "--template-dir", "t"], "--template-dir goes with --folder"),
        (["--model", "m", "--folder", "nowhere"], "nowhere: no such folder"),
        (["--model", "none", "--map", "off"], "--model none without a map: nothing is left to inspect with; give"),
        (["--model", "none", "--threshold", "11"], "--threshold is 11.0, expected 0 to 10 for a map's score"),
        (["--model", "none", "--map", "features"], "--map features: there is no model whose features to compare"),
        (["--model", "m", "--endpoint", "http://x/v1", "--map-search", "99"], "--map-search is 99, expected 0 to 64"),
        (["--model", "none", "--marks", "marks"], "--marks marks: is no name of a file, expected one with a suffix"),
    ],
)
def test_mistakes_are_one_line(words, message, refused, own_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(*words).startswith(message)
    assert list(tmp_path.iterdir()) == []  # its temporary folder has gone again


def test_a_folder_without_templates_says_what_is_missing(refused, tmp_path):
    part(1).save(tmp_path / "a.png")
    assert "not an MVTec-style tree" in (said := refused("--model", "m", "--folder", tmp_path))
    assert said.endswith("or give --template-dir with pictures of good parts")


def test_logins(monkeypatch):
    monkeypatch.setenv("ADCOPILOT_DEMO_PASSWORD", "from: outside")
    assert logins(["anna:a:b", "ben"]) == [("anna", "a:b"), ("ben", "from: outside")]
    for bad in (["anna:"], [":x"], [""], ["anna:1", "anna:2"]):
        with pytest.raises(UserError, match="--auth"):
            logins(bad)


@pytest.mark.parametrize("when", ["before anything slow", "between that and the page"])
def test_a_port_that_is_taken(stub_demo, stub, own_files, refused, monkeypatch, when):
    port = stub_demo.url.rpartition(":")[2]
    if when == "before anything slow":
        monkeypatch.setattr("adcopilot.demo.command.make_engine", lambda *_: pytest.fail("made an engine"))
    else:
        monkeypatch.setattr("adcopilot.demo.command.check_port", lambda host, port: None)
    said = refused("--endpoint", stub.url, "--model", "m", "--port", port)
    assert said.startswith(f"--host 127.0.0.1, --port {port}: cannot listen there"), said


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "0.0.0.0", "::"])
def test_hosts_that_can_be_listened_at(host):
    if ":" in host:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    check_port(host, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_hosts_of_others(host):
    with pytest.raises(UserError, match="cannot listen there"):
        check_port(host, 45678)


def test_a_page_over_an_endpoint_starts_without_torch(stub, tmp_path):
    """It comes with the first map."""
    psutil = pytest.importorskip("psutil")
    with demo(tmp_path / "run", "--endpoint", stub.url, "--model", "ad-copilot") as running:
        assert not [one.path for one in psutil.Process(running.process.pid).memory_maps() if "libtorch" in one.path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "marks.jsonl:1:"),
        ('{"query": "a.png"}\n', "marks.jsonl:1: {'query': 'a.png'}, expected a mark with `query`"),
    ],
)
def test_marks_are_looked_at_before_anybody_marks(content, message, own_files, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marks.jsonl").write_text(content)
    said = refused("--model", "none", "--marks", "marks.jsonl")
    assert said.startswith(message), said
    assert said.endswith("give another --marks FILE, such as marks.jsonl")
    assert (tmp_path / "marks.jsonl").read_text() == content
    assert "cannot be written (" in refused("--model", "none", "--marks", tmp_path / "marks.jsonl" / "x.jsonl")


@pytest.mark.parametrize(
    ("changed", "words", "message"),
    [
        ({"map": None}, [], "without a map: nothing is left to inspect with; give --map pixels"),
        ({}, ["--map", "off"], "without a map: nothing is left to inspect with; give --map pixels"),
        ({"templates": ["gone.png"]}, [], "gone.png: not found, but inspection.json names it as a template"),
    ],
)
def test_a_lines_folder_that_cannot_work(changed, words, message, line_dir, own_files, refused):
    path = line_dir / "inspection.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert message in refused("--model", line_dir, *words)


def service_of(monkeypatch, model, *words):
    """What the page would be built with."""
    built = []
    monkeypatch.setattr("adcopilot.demo.page.build_page", lambda service, **_: built.append(service))
    monkeypatch.setattr("adcopilot.demo.server.serve", lambda *_, **__: None)
    assert not main(["demo", "--model", str(model), *words])
    return built[0]


@pytest.mark.parametrize(
    ("words", "threshold", "each"),
    [
        ([], 0.2, 2),
        (["--map-templates", "1"], None, 1),
        (["--map", "texture"], None, 2),
        (["--map-search", "9", "--threshold", "0.3"], 0.3, 2),
    ],
)
def test_a_threshold_holds_for_the_map_that_it_was_found_with(
    words, threshold, each, line_dir, own_files, capsys, monkeypatch
):
    """As in `adcopilot inspect`."""
    service = service_of(monkeypatch, line_dir, *words)
    assert (service.judge.map_threshold, service.templates_each) == (threshold, each)
    assert ("does not hold for these" in capsys.readouterr().err) == (threshold is None)


@pytest.mark.parametrize(("words", "each"), [([], 1), (["--map", "texture"], 32), (["--map-templates", "3"], 3)])
def test_without_a_line_the_map_says_how_many_templates_it_needs(words, each, own_files, monkeypatch):
    assert service_of(monkeypatch, "none", *words).templates_each == each


@pytest.mark.parametrize(("words", "has_map"), [([], True), (["--map", "off"], False)])
def test_the_map_beside_an_endpoint_can_be_left_out(words, has_map, stub, own_files, monkeypatch):
    assert service_of(monkeypatch, "m", "--endpoint", stub.url, *words).engine.has_map is has_map


def test_a_model_that_is_not_finite_serves_no_page(speaking_dir, own_files, tmp_path, capsys):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(speaking_dir, tmp_path / "model")
    file = sorted((tmp_path / "model").glob("*.safetensors"))[-1]
    weights = load_file(file)
    name = sorted(name for name, weight in weights.items() if weight.dim() > 1)[0]
    weights[name][0, 0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    assert main(["demo", "--model", str(tmp_path / "model"), "--device", "cpu"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert "not finite" in error[0]
    assert name in error[0]
