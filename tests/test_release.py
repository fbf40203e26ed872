"""What a release has beside the code: one version, a change list, a citation, issue templates, Dockerfiles."""

import re
import shutil
import subprocess

import pytest
import yaml

import adcopilot


def read(path):
    return yaml.safe_load(path.read_text("utf-8"))


def test_the_change_list_begins_with_this_version(project_root):
    text = (project_root / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[(\S+)\] - (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert versions[0][0] == adcopilot.__version__
    assert versions == sorted(versions, key=lambda one: [int(part) for part in one[0].split(".")], reverse=True)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert (
        read(project_root / "CITATION.cff")["version"],
        str(read(project_root / "CITATION.cff")["date-released"]),
    ) == (versions[0])


def test_the_citation_is_of_software_and_paper(project_root):
    cited = read(project_root / "CITATION.cff")
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= cited.keys()
    paper = cited["preferred-citation"]
    assert paper["title"] == (
        "AD-Copilot: A Vision-Language Assistant for Industrial Anomaly Detection via Visual In-context Comparison"
    )
    assert [one["family-names"] for one in paper["authors"]] == (
        ["Jiang", "Guo", "Li", "Liu", "Gao", "Deng", "Liu", "Zhao", "Wang", "Zheng"]
    )


def test_issue_templates_are_forms(project_root):
    found = {path.stem: read(path) for path in (project_root / ".github/ISSUE_TEMPLATE").glob("*.yml")}
    assert set(found) == {"config", "bug", "question", "dataset_reader"}
    for name in ("bug", "question", "dataset_reader"):
        form = found[name]
        assert {"name", "description", "body"} <= form.keys()
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(ids) == len(set(ids))
        for part in form["body"]:
            assert part["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
            assert part["attributes"].get("label") or part["attributes"].get("value")
    assert "adcopilot env" in str(found["bug"])


def instructions(path) -> list[tuple[str, str]]:
    """(word, rest) of each instruction, lines that go on joined, comments left out."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ["train", "serve"])
def test_dockerfiles(project_root, name):
    found = instructions(project_root / f"docker/{name}.Dockerfile")
    words = [word for word, _ in found]
    assert words[0] == "FROM"
    for _, rest in (one for one in found if one[0] == "FROM"):
        assert re.match(r"python:3\.11\.\d+-slim-\w+( AS \w+)?$", rest), "a base is pinned to a release of Python"
    users = [rest for word, rest in found if word == "USER"]
    assert users == ["1000"], "not root, and a number that a host can check"
    assert words.index("USER") > max(place for place, word in enumerate(words) if word in ("RUN", "COPY"))
    text = " ".join(" ".join(one) for one in found)
    assert f"COPY constraints/{name}.txt" in text
    assert "-c /wheel/constraints.txt" in text
    assert not re.search(r"(?i)(token|password|secret|api_key)\s*=", text)
    for word, rest in found:
        if word == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists/*" in rest
        if word == "COPY" and "--from" not in rest and not rest.startswith("."):
            assert (project_root / rest.split()[0]).exists()


def test_the_training_image_has_the_makefiles_llamafactory_and_extras_that_exist(project_root):
    makefile = (project_root / "Makefile").read_text("utf-8")
    version = re.search(r"^LLAMAFACTORY := (\S+)$", makefile, re.MULTILINE)[1]
    assert f"llamafactory=={version} " in (project_root / "docker/train.Dockerfile").read_text("utf-8")
    setup = (project_root / "setup.py").read_text("utf-8")
    for name in ("train", "serve"):
        text = (project_root / f"docker/{name}.Dockerfile").read_text("utf-8")
        for extra in re.search(r"whl\)\[([\w,-]+)\]", text)[1].split(","):
            assert f'"{extra}": ' in setup


def test_nothing_secret_or_large_goes_to_the_builder(project_root):
    ignored = (project_root / ".dockerignore").read_text("utf-8").split()
    assert {".git", ".venv*", "saves", "outputs", "**/.env"} <= set(ignored)
    for needed in ("plugin", "evaluation", "data/sample", "examples", "constraints", "setup.py", "README.md"):
        assert needed not in ignored


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint")
@pytest.mark.parametrize("name", ["train", "serve"])
def test_hadolint(project_root, name):
    # versions of Debian's packages go with the pinned base
    words = ["hadolint", "--ignore", "DL3008", str(project_root / f"docker/{name}.Dockerfile")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
