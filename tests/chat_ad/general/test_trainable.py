"""What the converters write can be trained on: LlamaFactory reads, mixes and encodes it with AD-Copilot's template."""

import json

import pytest

from adcopilot import cli
from adcopilot.chat_ad.general.fetching import url_key
from adcopilot.chat_ad.recipe.table_one import GENERAL

from .conftest import png, talk, write, write_parquet


@pytest.fixture
def all_sources(place, clevr, spot, brush):
    """A small copy of each general source; what PixMo-cap's one link leads to has been fetched before."""
    for name in ("1.png", "2.png"):
        write(place.media / "talks" / name, png())
    image = "<image>\n"
    write(
        place.media / "talks/m4_instruct_annotations.json",
        [
            {"sample_id": 1, "image": ["1.png", "2.png"], "conversations": talk(image + "and <image>?", "Yes.")},
            {"sample_id": 2, "image": "1.png", "conversations": talk("What is <image>?", "It.", "Sure?", "Sure.")},
        ],
    )
    write(
        place.media / "talks/llava_v1_5_mix665k.json",
        [{"id": "1", "image": "2.png", "conversations": talk(image + "What?", "A cat.", "Colour?", "Grey.")}],
    )
    say = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    system = {"role": "system", "content": "Be short."}
    rows = [{"id": "a", "messages": say}, {"id": "b", "messages": [system, *say]}]
    write_parquet(place.media / "olmo/train-0.parquet", rows)
    url = "https://example.org/cat.png"
    write_parquet(place.media / "pixmo/train-0.parquet", [{"image_url": url, "caption": "A cat on a sofa."}])
    key = url_key(url)
    write(place.output / f"PixMo-cap/{key[:2]}/{key}.png", png())
    line = {"try": f"{key}/0", "key": key, "url": url, "file": f"{key[:2]}/{key}.png", "reason": ""}
    write(place.output / "PixMo-cap/fetched.jsonl", json.dumps(line).encode() + b"\n")
    talks = place.media / "talks"
    return {
        "clevr-change": clevr,
        "magicbrush": brush,
        "spot-the-diff": spot,
        "pixmo-cap": place.media / "pixmo",
        "m4-instruct": talks,
        "llava-mix": talks,
        "olmo-sft": place.media / "olmo",
    }


def test_the_preflight_passes_over_all_of_them(place, all_sources, adcopilot_dir, capsys):
    pytest.importorskip("llamafactory")
    for command, root in all_sources.items():
        assert place.run(command, root, images=command != "olmo-sft") == 0
    settings = {
        "model_name_or_path": str(adcopilot_dir),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(place.output),
        "media_dir": str(place.media),
        "dataset": ",".join(GENERAL),
        "template": "adcopilot",
        "cutoff_len": 512,
        "output_dir": str(place.media / "out"),
    }
    (place.media / "train.yaml").write_text(json.dumps(settings), "utf-8")  # JSON is YAML
    capsys.readouterr()
    assert cli.main(["preflight", str(place.media / "train.yaml")]) == 0
    said = capsys.readouterr().out
    numbers = {"CLEVR-Change": 12, "MagicBrush": 5, "Spot-the-diff": 3, "PixMo-cap": 1, "M4_Instruct": 2}
    for name, number in (numbers | {"LLaVA_V1.5_mix665k": 1, "OLMo-2-SFT": 2}).items():
        assert f"{name}: {number} samples can be trained on" in said
        # Every record has all that reports and reinforcement learning read, of the same types in each set.
        for record in place.records(name):
            kinds = {key: type(value) for key, value in record.items()}
            assert kinds == {
                "messages": list,
                "images": list,
                "task": str,
                "answer": str,
                "boxes": list,
                "labels": list,
                "mask": str,
                "source": str,
                "key": str,
                "category": str,
            }
            assert (record["source"], len(record["labels"])) == (name, len(record["boxes"]))
