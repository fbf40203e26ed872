"""`python -m tests.golden [--write] [AREA …]`: compare the goldens, or write them anew."""

import argparse
import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    folder = Path(__file__).parent
    areas = sorted(path.stem.removeprefix("test_") for path in folder.glob("test_*.py"))
    areas.remove("store")  # which tests the comparison
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"{', '.join(areas)} (all)")
    parser.add_argument("--write", action="store_true", help="write them anew; then read `git diff tests/golden`")
    args = parser.parse_args()
    unknown = [area for area in args.areas if area not in areas]
    if unknown:
        print(f"error: there is no area {unknown[0]!r}, expected some of {', '.join(areas)}", file=sys.stderr)
        return 2
    if args.write:
        os.environ["ADCOPILOT_GOLDEN"] = "write"
    return int(pytest.main([str(folder / f"test_{area}.py") for area in args.areas or areas]))


if __name__ == "__main__":
    sys.exit(main())
