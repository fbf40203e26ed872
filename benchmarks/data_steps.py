"""The steps that `data_pipeline` times. Each yields when it is set up, and when done how many entries there were."""

import json
import os
from pathlib import Path

import numpy as np

#: Images of a category in the synthetic entries, half of them normal; more entries are more categories.
CATEGORY = 1000

SIDE = 1024

DIMENSION = 1024


def make_tree(folder: Path, count: int) -> None:
    """An MVTec-style tree with `count` images of 1 KiB; half of them good, hard links to a few files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    bases = []
    (folder / "base").mkdir(parents=True)
    for number in range(16):
        path = folder / "base" / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), np.uint8)).save(path)
        bases.append(path)
    mask = folder / "base" / "mask.png"
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), ((2, 10), (2, 14)))).save(mask)
    for category in range(max(1, count // CATEGORY)):
        base = folder / "tree" / f"c{category:04d}"
        folders = [base / "train/good", base / "test/scratch", base / "ground_truth/scratch"]
        for one in folders:
            one.mkdir(parents=True)
        for number in range(min(count, CATEGORY) // 2):
            os.link(bases[number % 16], folders[0] / f"{number:05d}.png")
            os.link(bases[(number + 1) % 16], folders[1] / f"{number:05d}.png")
            os.link(mask, folders[2] / f"{number:05d}_mask.png")


def index(folder: str):
    """Read the layout and measure every item, shard by shard, as the build does."""
    from itertools import islice

    from adcopilot.chat_ad.pipeline.dataset_steps import INDEX
    from adcopilot.chat_ad.readers import make_source, scan
    from adcopilot.chat_ad.steps import save
    from adcopilot.masks import MaskOptions

    root = str(Path(folder) / "tree")
    arguments = {"root": root, "dataset": "bench", "licence": "", "min_area": 1, "masks": MaskOptions(), "recipe": ""}

    def parts():
        items = scan(make_source("mvtec", root))
        while part := list(islice(items, 1024)):
            yield part

    # Once for what is imported when it is first needed.
    first = next(parts())
    INDEX.function(items=[first[0], first[-1]], **arguments)
    yield
    count = 0
    for number, part in enumerate(parts()):
        table, notes = INDEX.function(items=part, **arguments)
        count += save(Path(folder) / f"{number}.parquet", "k", table, **notes).rows
    yield count


def judge(count: int):
    """What is unfit or double among measured images: random pictures, one in twenty of them twice."""
    import pyarrow as pa

    from adcopilot.chat_ad.fitness.fingerprints import MEASURES, Fingerprints
    from adcopilot.chat_ad.fitness.measures import judge as judge_rows
    from adcopilot.chat_ad.fitness.rebalance import rebalance

    rng = np.random.default_rng(1)
    tables, rows = [], []
    for start in range(0, count, CATEGORY):
        number = min(CATEGORY, count - start)
        # Smooth pictures, as photographs are: noise would have no candidates for near duplicates at all.
        thumbs = np.kron(rng.integers(60, 200, (number, 4, 4)), np.ones((8, 8))).astype(np.uint8)
        thumbs[number - number // 20 :] = thumbs[: number // 20]
        random = [rng.bytes(32) for _ in range(number)]
        names = [f"{start + place:08d}.png" for place in range(number)]
        columns = {
            "image": names,
            "sha256": [one.hex() for one in random],
            "problem": [None] * number,
            "width": [1024] * number,
            "height": [1024] * number,
            "laplacian": rng.uniform(50, 500, number),
            "sharpness": rng.uniform(1, 2, number),
            "low": [10] * number,
            "high": [240] * number,
            "pixels": [one[:16] for one in random],
            "phash": [one[:8] for one in random],
            "thumb": [one.tobytes() for one in thumbs],
        }
        tables.append(pa.table(columns, schema=MEASURES))
        label = ["normal" if place % 2 else "anomalous" for place in range(number)]
        rows.append(
            pa.table(
                {
                    "image": names,
                    "category": [f"c{start // CATEGORY}"] * number,
                    "view": [""] * number,
                    "label": label,
                    "defect": ["scratch" if one == "anomalous" else "" for one in label],
                    "boxes": pa.array([[[1, 1, 9, 9]]] * number, pa.list_(pa.list_(pa.int32()))),
                    "width": [1024] * number,
                    "height": [1024] * number,
                    "source": ["bench"] * number,
                }
            )
        )
    prints, table = Fingerprints(tables), pa.concat_tables(rows)
    yield
    drops = judge_rows(table, prints)
    rebalance(table, ratio=1.0, among=np.setdiff1d(np.arange(count), list(drops)))
    yield count


def _vectors(count: int) -> np.ndarray:
    vectors = np.random.default_rng(2).standard_normal((count, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _rows(count: int):
    import pyarrow as pa

    from adcopilot.chat_ad.table import Entry, to_batch

    entries = [
        Entry(
            image=f"{place:08d}.png",
            category=f"c{place // CATEGORY}",
            label="normal" if place % 2 else "anomalous",
            width=1024,
            height=1024,
            sha256=f"{place:064x}",
            source="bench",
        )
        for place in range(count)
    ]
    return pa.Table.from_batches([to_batch(entries)])


def pair(count: int):
    """Each of the entries with the nearest normal one of its category."""
    from adcopilot.chat_ad.pairing import POOL_COLUMNS, Pool, pair_shard

    vectors, rows = _vectors(count), _rows(count)
    pool = Pool(rows.select(POOL_COLUMNS), vectors)
    yield
    made = 0
    for start in range(0, count, 1024):
        made += pair_shard(rows.slice(start, 1024), vectors[start : start + 1024], pool)[0].num_rows
    yield made


def pair_by_hand(count: int, whole: bool):
    """The same by comparing each query with every normal image, of its category or of all of them."""
    vectors = _vectors(count)
    normal = np.arange(count) % 2 == 1
    category = np.arange(count) // CATEGORY
    yield
    asked = range(count) if not whole else range(0, count, max(1, count // 100))
    for query in asked:
        members = np.flatnonzero(normal & (True if whole else category == category[query]))
        members = members[members != query]
        members[np.argmax(vectors[members].astype(np.float64) @ vectors[query].astype(np.float64))]
    yield len(asked)


def generate(count: int):
    """A record for each pair, the tasks in turn, from the annotations alone."""
    from adcopilot.chat_ad.generation import TASKS, AnnotationsGenerator, PairView, PromptFiles, generate_records

    prompts = PromptFiles()
    writer = AnnotationsGenerator(prompts=prompts)

    def views(task: str, number: int):
        for place in range(number):
            bad = task == "loc" or place % 2
            yield PairView(
                key=f"{task}{place:026d}",
                images=(f"{place}t.png", f"{place}q.png"),
                size=(1024, 1024),
                category=f"part {place // CATEGORY}",
                source="bench",
                anomalous=bool(bad),
                defect="scratch" if bad else "",
                boxes=((100 + place % 700, 200, 160 + place % 700, 260),) if bad else (),
                labels=("scratch",) if bad else (),
                other_defects=("dent", "crack", "stain", "hole"),
                other_categories=("cable", "screw", "bottle", "tile"),
            )

    yield
    made = 0
    for place, task in enumerate(TASKS):
        pairs = views(task, len(range(place, count, len(TASKS))))
        for record in generate_records(
            pairs, generator=writer, task=task, seed=0, prompts=prompts, on_refused=lambda _: None
        ):
            json.dumps(record, ensure_ascii=False)
            made += 1
    yield made


def opened(folder: str, step: str, count: int):
    """A step that opens images, on drawn photographs of 1024 × 1024 pixels."""
    from adcopilot.chat_ad.pipeline.cut import CUT
    from adcopilot.chat_ad.pipeline.dataset_steps import EMBED, INDEX, MEASURE, embedder
    from adcopilot.chat_ad.recipe.specs import ImageSpec
    from adcopilot.chat_ad.steps import save
    from adcopilot.masks import MaskOptions
    from adcopilot.sample.pairs import draw_pair, stream

    root = Path(folder)
    from adcopilot.chat_ad.readers import ListedImage

    items = []
    for number in range(count):
        name = f"{number}.png"
        if not (root / name).exists():
            drawn = draw_pair(stream(0, 0, number), category="washer", size=256, anomalous=False).query
            big = np.asarray(drawn.resize((SIDE, SIDE), 2)).astype(np.int16)
            noise = np.random.default_rng(number).normal(0, 3, big.shape)
            from PIL import Image

            Image.fromarray(np.clip(big + noise, 0, 255).astype(np.uint8)).save(root / name)
        items.append(ListedImage(image=name, category="washer", anomalous=False))
    arguments = {"items": items, "root": folder, "dataset": "bench", "licence": "", "min_area": 1}
    arguments |= {"masks": MaskOptions(), "recipe": ""}
    pairs, _ = INDEX.function(**arguments)
    rows = save(root / "rows.parquet", "k", pairs)

    def run(step, **more) -> None:
        table, notes = step.function(**more)
        save(root / f"{step.name}.parquet", "k", table, **notes)

    import pyarrow as pa

    from adcopilot.chat_ad.pairing import PAIR_SCHEMA, PairOptions

    options = PairOptions()
    embedder(options)

    windows = pa.array([[100, 100, 900, 900]] * count, PAIR_SCHEMA.field("crop").type)
    templates = pairs.take(pa.array([(place + 1) % count for place in range(count)]))
    more = [templates[name] for name in ("image", "sha256", "width", "height")]
    columns = [*pairs.columns, *more, pa.nulls(count, pa.float64()), windows]
    save(root / "pairs.parquet", "k", pa.table(columns, schema=PAIR_SCHEMA))
    yield
    if step == "index":
        run(INDEX, **arguments)
    elif step == "measure":
        run(MEASURE, rows=rows.path, root=folder)
    elif step == "embed":
        chosen = list(range(count))
        run(EMBED, rows=rows.path, chosen=chosen, root=folder, options=options)
    else:
        spec = ImageSpec(format=step.removeprefix("cut "))
        arguments = {"root": folder, "media_dir": folder, "prefix": f"{step}/", "dataset": "bench", "images": spec}
        arguments |= {"pairs": root / "pairs.parquet", "chosen": list(range(count)), "marked_prefix": ""}
        run(CUT, **arguments)
    yield count
