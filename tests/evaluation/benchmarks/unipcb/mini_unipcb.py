"""UniPCB in miniature: the benchmark's layout and kinds of questions, drawn and written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

FOLDER = "data/benchmark/generated/generate_vqa_bilingual_test"
FILE = f"{FOLDER}/all_vqa_data_bilingual_20260101_000000.json"

#: Sizes of the files, and what image_size says of them: height first, in multiples of 28.
TALL, TALL_FRAME = (120, 200), [196, 112]
WIDE, WIDE_FRAME = (240, 100), [112, 252]
SQUARE, SQUARE_FRAME = (100, 100), [112, 112]


def choice(question: str, right: str, others: list[str], *, kind: str, letter: str = "B") -> dict[str, Any]:
    texts = [others[0], right, *others[1:]]
    return {
        "question": question,
        "correct_option": right,
        "type": kind,
        "options": [f"{'ABCD'[index]}. {text}" for index, text in enumerate(texts)],
        "correct_answer_letter": letter,
    }


def opened(question: str, answer: str, *, kind: str) -> dict[str, Any]:
    return {"question": question, "correct_option": answer, "type": kind}


def boxes(question: str, classes: dict[str, list[list[int]]], *, kind: str) -> dict[str, Any]:
    return {"question": question, "correct_option": json.dumps(classes, ensure_ascii=False), "type": kind}


def sample(images: list[str], turns: list[dict], *, size: list[int], dataset: str, level: str, language: str) -> dict:
    return {
        "conversation": turns,
        "images": [f"data/benchmark/raw/{name}" for name in images],
        "image_size": size,
        "dataset": dataset,
        "dataset_type": level,
        "language": language,
    }


def samples() -> list[dict[str, Any]]:
    """Seven samples, 17 questions: 6 choices, 7 open, 4 for boxes."""
    return [
        sample(
            ["PCBA/bbox_class/1.jpg"],
            [
                opened("Describe the defects.", "A screw is missing at the top left.", kind="defect detail describe"),
                opened("What may be the cause?", "The screw was forgotten in assembly.", kind="defect analysis"),
            ],
            size=TALL_FRAME, dataset="PCBA", level="P1", language="en",
        ),
        sample(
            ["PCBA/bbox_class/2.jpg"],
            [opened("请详细描述缺陷的特征。", "左上角缺少螺丝。", kind="defect detail describe")],
            size=WIDE_FRAME, dataset="PCBA", level="P1", language="zh",
        ),
        sample(
            ["FPIC/bbox_noclass/a.jpg"],
            [
                choice("Which component is marked?", "Resistor", ["LED", "Diode", "Fuse"], kind="component type"),
                choice("How many are there?", "3", ["1", "2", "4"], kind="component count"),
                opened("Describe them.", "Small, black and rectangular.", kind="component describe"),
            ],
            size=SQUARE_FRAME, dataset="FPIC", level="P2", language="en",
        ),
        sample(
            ["DeepPCB/ref/b.jpg", "DeepPCB/test/b.jpg"],
            [
                choice("图中标注的缺陷属于哪些类型?", "缺焊", ["短路", "开路", "烧焦"], kind="defect classification"),
                opened("请描述缺陷。", "焊点缺失。", kind="defect detail describe"),
            ],
            size=SQUARE_FRAME, dataset="DeepPCB", level="P2", language="zh",
        ),
        sample(
            ["pcb-component-detection/images/3.jpg"],
            [
                opened("Describe this image", "A circuit board with two resistors.", kind="object describe"),
                choice("Where are they?", "at the left", ["at the right", "top", "bottom"], kind="component location"),
                boxes("Find the boxes of the Resistor components.", {"Resistor": [[0, 98, 56, 196], [56, 0, 112, 49]]},
                      kind="component coordinates"),
            ],
            size=TALL_FRAME, dataset="pcb-component-detection", level="P3", language="en",
        ),
        sample(
            ["DeepPCB/ref/c.jpg", "DeepPCB/test/c.jpg"],
            [
                choice("图中有缺陷吗?", "有", ["没有"], kind="defect detection"),
                boxes("找出缺陷的坐标。", {"短路": [[21, 0, 63, 56]], "开路": [[126, 56, 252, 112]]},
                      kind="defect coordinates"),
            ],
            size=WIDE_FRAME, dataset="DeepPCB", level="P3", language="zh",
        ),
        sample(
            ["VisA/d.jpg"],
            [
                choice("Is there a defect?", "No", ["Yes"], kind="defect detection"),
                boxes("Find the defects.", {}, kind="defect coordinates"),
                boxes("Find the fuse.", {"Fuse": [[0, 0, 112, 112]]}, kind="component coordinates"),
                opened("Describe the whole image", "A board without any defect.", kind="object describe"),
            ],
            size=SQUARE_FRAME, dataset="VisA", level="P3", language="en",
        ),
    ]  # fmt: skip


def build(root: Path, entries: list[dict] | None = None) -> Path:
    """Write the benchmark below `root` and return it."""
    entries = samples() if entries is None else entries
    sizes = {tuple(TALL_FRAME): TALL, tuple(WIDE_FRAME): WIDE, tuple(SQUARE_FRAME): SQUARE}
    for number, entry in enumerate(entries):
        for place, name in enumerate(entry["images"]):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", sizes[tuple(entry["image_size"])], (20, 90, 40))
            ImageDraw.Draw(image).rectangle([10 * number, 10, 10 * number + 20, 40], fill=(200, 200, 60 * place))
            image.save(path)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    (root / FILE).write_text(json.dumps(entries, ensure_ascii=False, indent=1), "utf-8")
    names = root / "scripts/benchmark_generation/test_prior_knowledge.json"
    names.parent.mkdir(parents=True, exist_ok=True)
    content = {"DeepPCB": {"name": "DeepPCB", "defect_map_chinese": {"short": "短路", "open circuit": "开路"}}}
    names.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return root
