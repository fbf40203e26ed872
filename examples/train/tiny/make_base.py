"""Makes the tiny base that the package ships: tokenizer, random weights, single-image scenes, stock training.

    python examples/train/tiny/make_base.py            (from the project's root; about 25 minutes on two cores)

Writes `saves/tiny_base/`, then copies the trained base to `plugin/model/tiny_base/`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from adcopilot.sample.generate import SampleSplit, write_sample
from adcopilot.sample.tiny_base import build_untrained

WORK = Path("saves/tiny_base")
PACKAGED = Path("plugin/model/tiny_base")
KEPT = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    build_untrained(WORK / "untrained", seed=args.seed)
    split = SampleSplit(name="base", count=args.scenes, number=1, single=True)
    write_sample(WORK / "data", [split], seed=args.seed, workers=os.cpu_count() or 1, progress=print)
    command = [str(Path(sys.executable).with_name("llamafactory-cli")), "train", "examples/train/tiny/base.yaml"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    PACKAGED.mkdir(exist_ok=True)
    for name in KEPT:
        source = WORK / "trained" / name
        if source.exists():
            shutil.copyfile(source, PACKAGED / name)
    config = json.loads((PACKAGED / "config.json").read_text())
    config["text_config"]["use_cache"] = True  # LlamaFactory switches the key-value cache off for training
    (PACKAGED / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
