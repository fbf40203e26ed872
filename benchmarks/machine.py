"""What a result has to say about where it was measured."""

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("adcopilot", "torch", "transformers", "llamafactory", "peft", "accelerate")


def versions() -> dict[str, str]:
    """Of Python and of the packages that a number may depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, object]:
    """Processor, cores that this process may use, memory, load when asked, and the accelerator if there is one."""
    import torch

    cpu_info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = [line.split(":", 1) for line in cpu_info.splitlines() if ":" in line]
    facts = {name.strip(): value.strip() for name, value in reversed(fields)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "amx_bf16": "amx_bf16" in facts.get("flags", ""),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    return found


def now() -> str:
    """The date and time of a result, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def measured(script: str, argv: list[str] | None = None) -> dict[str, object]:
    """What a result begins with: the command (this process's unless `argv` is given), when, where, which versions."""
    words = ["python", f"benchmarks/{script}.py", *(sys.argv[1:] if argv is None else argv)]
    return {"command": shlex.join(words), "date": now(), "hardware": hardware(), "versions": versions()}


def told(result: dict, *, command: str = "", hardware: str = "", versions: str = "") -> list[str]:
    """The same as the lines that a page ends with; words are put behind each."""
    return [
        f"- command: `{result['command']}`{command}",
        f"- date: {result['date']}",
        f"- hardware: {as_lines(result['hardware'])}{hardware}",
        f"- versions: {as_lines(result['versions'])}{versions}",
    ]


def here() -> str:
    """When, where, with which versions, in a line."""
    return f"{now()}; {as_lines(hardware())}; {as_lines(versions())}."


def as_lines(facts: dict) -> str:
    """`name value` pairs in one line of text."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def write_result(stem: Path, result: dict, page: str) -> None:
    """Write a result as `stem`.json and its page as `stem`.md, and print the page."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)
