"""Small datasets in the layouts of the public ones, drawn here, for the readers' tests and everything after them.

root = build("mvtec", tmp_path)       # the folder for `--root`
root = build("visa-1cls", tmp_path)   # a second layout of the same dataset; DATASETS says whose
"""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np

from .pictures import BOX, SIZE, mask_of, picture, save


def build(name, folder):
    """Draw one of `LAYOUTS` below `folder` and return the root that `--root` would name."""
    root = Path(folder) / name
    root.mkdir(parents=True)
    LAYOUTS[name](root)
    return root


def _tree(base, *, ending, suffix=".png", kinds=("scratch",), name="{:03d}", mask_suffix=".png", validation=None):
    """An MVTec-style category: three train, two test good, one or more of each kind of defect."""
    for split, count in (("train", 3), ("test", 2), *([(validation, 1)] if validation else [])):
        for index in range(count):
            save(base / split / "good" / (name.format(index) + suffix), picture(f"{base.name}{split}{index}".encode()))
    for kind in kinds:
        for index in range(2):
            seed = f"{base.name}{kind}{index}".encode()
            save(base / "test" / kind / (name.format(index) + suffix), picture(seed, box=BOX))
            save(base / "ground_truth" / kind / (name.format(index) + ending + mask_suffix), mask_of(BOX))


def mvtec(root):
    for category, kinds in {"bottle": ("broken_large", "contamination"), "wood": ("hole",)}.items():
        _tree(root / category, ending="_mask", kinds=kinds)
        (root / category / "readme.txt").write_text("a text beside the folders\n")


def ds_mvtec(root):
    for category, colours in {"bottle": "rbg_mask", "pill": "rgb_mask"}.items():
        base = root / category
        for kind in ("good", "crack"):
            for index in range(2):
                box = None if kind == "good" else BOX
                save(base / f"image/{kind}/{index:03d}.png", picture(f"ds{category}{kind}{index}".encode(), box=box))
                (base / f"image/{kind}/{index:03d}.txt").write_text("a caption\n")
                if box:
                    mask = mask_of(BOX)
                    save(base / f"mask/{kind}/{index:03d}_mask.png", mask)
                    save(base / f"{colours}/{kind}/{index:03d}_{colours}.png", np.stack([mask, mask * 0, mask], 2))
        (base / "image/good/summary.json").write_text("{}")


def mpdd(root):
    _tree(root / "metal_plate", ending="_mask", kinds=("scratches", "total_rust"))
    _tree(root / "tubes", ending="_mask", kinds=("anomalous",))


def goodsad(root, ending=""):
    _tree(root / "drink_can", ending=ending, suffix=".jpg", kinds=("straw_missing",), name="068_{:03d}")


def goodsad_mask(root):
    goodsad(root, ending="_mask")


def three_cad(root):
    _tree(root / "Copper_Stator", ending="", kinds=("aotu",), name="{:06d}")


def viaduct(root):
    base = root / "05_cable_end_sleeve"
    for split in ("train", "val", "test"):
        for part in range(2):
            for view in range(2):
                image = picture(f"viaduct{split}{part}{view}".encode())
                save(base / split / "good" / f"Image_defect-free_{part:03d}_{view}.png", image)
    for view in range(2):
        name = f"Image_dent_007_{view}.png"
        save(base / "test/dent" / name, picture(f"viaductdent{view}".encode(), box=BOX))
        save(base / "ground_truth/dent" / name, mask_of(BOX))


def loco(root):
    base = root / "screw_bag"
    for split in ("train", "validation", "test"):
        for index in range(2):
            save(base / split / "good" / f"{index:03d}.png", picture(f"loco{split}{index}".encode()))
    # Two regions in two files, then one that says which of the structural ones it is.
    save(base / "test/logical_anomalies/000.png", picture(b"logical", box=BOX))
    save(base / "ground_truth/logical_anomalies/000/000.png", mask_of(BOX, value=253))
    save(base / "ground_truth/logical_anomalies/000/001.png", mask_of((40, 30, 50, 40), value=254))
    save(base / "test/structural_anomalies/000.png", picture(b"structural", box=BOX))
    save(base / "ground_truth/structural_anomalies/000/000.png", mask_of(BOX, value=251))
    config = [
        {"defect_name": "missing_screw", "pixel_value": 253, "saturation_threshold": 1, "relative_saturation": True},
        {"defect_name": "extra_nut", "pixel_value": 254, "saturation_threshold": 1, "relative_saturation": True},
        {"defect_name": "bag_broken", "pixel_value": 251, "saturation_threshold": 40, "relative_saturation": False},
    ]
    (base / "defects_config.json").write_text(json.dumps(config))


def visa(root):
    rows = [["object", "split", "label", "image", "mask"]]
    for index in range(4):
        path = f"pcb4/Data/Images/Normal/{index:04d}.JPG"
        save(root / path, picture(f"visa{index}".encode()))
        rows.append(["pcb4", "train" if index < 3 else "test", "normal", path, ""])
    second = (40, 30, 46, 36)
    for index, (boxes, values) in enumerate([((BOX, second), (2, 5)), ((BOX,), (7,))]):
        path, mask = f"pcb4/Data/Images/Anomaly/{index:03d}.JPG", f"pcb4/Data/Masks/Anomaly/{index:03d}.png"
        save(root / path, picture(f"visabad{index}".encode(), box=BOX))
        save(root / mask, mask_of(*boxes, value=values))
        rows.append(["pcb4", "test", "anomaly", path, mask])
    (root / "split_csv").mkdir()
    for name in ("1cls", "2cls_fewshot"):
        with open(root / f"split_csv/{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        rows[1][1] = "test"  # so that the two lists differ


def visa_1cls(root):
    base = root / "pcb4"
    for split, count in (("train", 3), ("test", 1)):
        for index in range(count):
            save(base / split / f"good/{index:04d}.JPG", picture(f"visa1{split}{index}".encode()))
    save(base / "test/bad/000.JPG", picture(b"visa1bad", box=BOX))
    save(base / "ground_truth/bad/000.png", mask_of(BOX))


def manta(root):
    base, size = root / "medicine/capsule", (5 * 48, 48)
    for split in ("train", "test"):
        save(base / split / "good/a.png", picture(f"manta{split}".encode(), size))
    # In the third of five views; what is not brighter than half of the scale is no defect.
    box = (2 * 48 + 10, 20, 2 * 48 + 22, 30)
    save(base / "test/crack/b.png", picture(b"mantabad", size, box))
    mask = mask_of(box, size=size)
    mask[0:4, 0:4] = 120
    save(base / "ground_truth/crack/b.png", mask)


def _real_iad(root, *, images, jsons, suffix, prefix, path=str):
    """Two good parts and one bad, five cameras each; cameras 1 and 2 see the defect."""
    images, jsons = root / images, root / jsons
    samples = {"train": [], "test": []}
    for split, part, code in (("train", 1, "OK"), ("test", 2, "OK"), ("test", 7, "BX"), ("test", 8, "XX")):
        folder = f"OK/S{part:04d}" if code == "OK" else f"NG/{code}/S{part:04d}"
        tag = "OK" if code == "OK" else f"NG_{code}"
        for camera in range(1, 6):
            stem = f"{folder}/audiojack_{part:04d}_{tag}_C{camera}_20230915{camera:06d}"
            bad = code != "OK" and camera <= 2
            image = picture(f"realiad{part}{camera}{suffix}".encode(), box=BOX if bad else None)
            save(images / (stem + suffix), image)
            mask = None
            if bad:
                mask = stem + (".png" if suffix == ".jpg" else "_mask.png")
                save(images / mask, mask_of(BOX))
            samples[split].append(
                {
                    "category": "audiojack",
                    "anomaly_class": code,
                    "image_path": path(stem + suffix),
                    "mask_path": mask and path(mask),
                }
            )
    jsons.mkdir(parents=True)
    content = {"meta": {"prefix": prefix, "normal_class": "OK"}, **samples}
    (jsons / "audiojack.json").write_text(json.dumps(content))


real_iad = partial(
    _real_iad, images="realiad_1024/audiojack", jsons="realiad_jsons", suffix=".jpg", prefix="realiad_1024/audiojack/"
)
real_iad_nested = partial(
    _real_iad, images="realiad_512/audiojack", jsons="realiad_jsons/realiad_jsons", suffix=".jpg", prefix=""
)
real_iad_variety = partial(
    _real_iad,
    images="realiadvariety_raw/audiojack/audiojack",
    jsons="Real-IAD_Variety_jsons",
    suffix=".png",
    prefix="",
    path=lambda text: text.replace("/", "\\"),
)


def polygon(box):
    """A box's corners as COCO's polygon."""
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def coco_content(names, annotations, *, categories=("break", "thunderbolt"), size=SIZE):
    """A COCO object. `annotations`: (index of the image, category id, box, segmentation or None)."""
    return {
        "images": [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]} for number, name in enumerate(names)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": 0,
                **({} if segmentation is None else {"segmentation": segmentation}),
            }
            for number, (image, category, box, segmentation) in enumerate(annotations)
        ],
    }


def vision(root):
    second = (40, 30, 50, 40)
    for split, annotations in {
        "train": [(0, 0, BOX, polygon(BOX)), (0, 1, second, polygon(second)), (1, 1, BOX, polygon(BOX))],
        "val": [(0, 0, BOX, polygon(BOX)), (1, 0, BOX, polygon(BOX))],
        "inference": [],
    }.items():
        names = [f"{number:06d}.jpg" for number in range(2)]
        for name in names:
            image = picture(f"vision{split}{name}".encode(), box=BOX if annotations else None)
            save(root / "Cable" / split / name, image)
        content = coco_content(names, annotations)
        (root / "Cable" / split / "_annotations.coco.json").write_text(json.dumps(content))


def coco(root):
    """Images 0 and 1 annotated by a polygon and a box only, image 2 not at all."""
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        save(root / "images" / name, picture(f"coco{name}".encode(), box=BOX))
    (root / "annotations").mkdir()
    content = coco_content(names, [(0, 1, BOX, polygon(BOX)), (1, 0, BOX, None)])
    (root / "annotations/instances_train.json").write_text(json.dumps(content))


def reinad(root):
    import h5py

    for split in ("train", "test"):
        (root / split).mkdir()
        with h5py.File(root / split / "bolt.h5", "w") as file:
            file.attrs["split"], file.attrs["category"] = split, "bolt"
            normal = np.stack([picture(f"reinad{split}{index}".encode()) for index in range(3)])
            file.create_dataset("Images/Normal_0", data=normal, compression="gzip")
            if split == "test":
                bad = np.stack([picture(f"reinadbad{index}".encode(), box=BOX) for index in range(2)])
                file.create_dataset("Images/Anomaly_0", data=bad)
                file.create_dataset("Masks/Anomaly_0", data=np.stack([mask_of(BOX, value=1)] * 2))


def deeppcb(root):
    from .conftest import write_pair

    for number in range(4):
        boxes = [(20, 20, 32, 30, number + 1), (60 + number, 100, 75, 112, (number + 1) % 6 + 1)]
        (root / "PCBData").mkdir(exist_ok=True)
        write_pair(root / "PCBData", "test" if number == 3 else "train", number, boxes, seed=number)


def yolo_line(number, box, size=SIZE):
    """A line of YOLO's, six digits as exporters write them."""
    (x1, y1, x2, y2), (width, height) = box, size
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{number} " + " ".join(f"{share:.6f}" for share in shares)


def yolo(root):
    """A box, a polygon, and two images whose files are empty."""
    for split in ("train", "val"):
        (root / "labels" / split).mkdir(parents=True)
        for name, box in (("good0", None), ("good1", None), ("box", BOX), ("polygon", BOX)):
            save(root / "images" / split / f"{name}.jpg", picture(f"yolo{split}{name}".encode(), box=box))
            corners = [(value / SIZE[place % 2]) for place, value in enumerate(polygon(BOX)[0])]
            outline = "0 " + " ".join(f"{share:.6f}" for share in corners)
            text = {"box": yolo_line(1, BOX), "polygon": outline}.get(name, "")
            (root / "labels" / split / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: dent, 1: long scratch}\n")


def voc_text(name, boxes, size=SIZE, label="crack"):
    """An annotation file of VOC's: pixels counted from 1, ends included."""
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for x1, y1, x2, y2 in boxes
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )


def voc(root):
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = {"a": [BOX], "b": [BOX, (40, 30, 50, 40)], "c": [], "d": []}
    for name, boxes in names.items():
        save(root / f"JPEGImages/{name}.jpg", picture(f"voc{name}".encode(), box=BOX if boxes else None))
        (root / f"Annotations/{name}.xml").write_text(voc_text(f"{name}.jpg", boxes))
    (root / "ImageSets/Main/train.txt").write_text("a\nc\n")
    (root / "ImageSets/Main/test.txt").write_text("b\nd\n")


def labelme_content(name, shapes, size=SIZE):
    """A LabelMe object. `shapes`: (label, shape type, points)."""
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [{"label": label, "points": points, "shape_type": kind} for label, kind, points in shapes],
        "imagePath": name,
        "imageData": None,
        "imageWidth": size[0],
        "imageHeight": size[1],
    }


def labelme(root):
    corners = [list(map(float, polygon(BOX)[0][place : place + 2])) for place in range(0, 8, 2)]
    shapes = {
        "a": [("dent", "polygon", corners)],
        "b": [("scratch", "rectangle", [[20.0, 10.0], [32.0, 18.0]])],
        "c": [("hole", "circle", [[26.0, 14.0], [30.0, 14.0]])],
        "d": [],
        "e": [],
    }
    for name, found in shapes.items():
        save(root / f"{name}.jpg", picture(f"labelme{name}".encode(), box=BOX if found else None))
        (root / f"{name}.json").write_text(json.dumps(labelme_content(f"{name}.jpg", found)))


def folder_tree(root):
    _tree(root / "gasket", ending="", kinds=("tear",))


def folder(root):
    for name, box in (("good", None), ("dent", BOX), ("bad", BOX)):
        for index in range(2):
            save(root / name / f"{name} {index}.png", picture(f"folder{name}{index}".encode(), box=box))
            if box:
                save(root / "masks" / name / f"{name} {index}.png", mask_of(BOX))


#: Layout → what draws it.
LAYOUTS = {
    "mvtec": mvtec,
    "ds-mvtec": ds_mvtec,
    "visa": visa,
    "visa-1cls": visa_1cls,
    "loco": loco,
    "goodsad": goodsad,
    "goodsad-mask": goodsad_mask,
    "mpdd": mpdd,
    "3cad": three_cad,
    "viaduct": viaduct,
    "manta": manta,
    "real-iad": real_iad,
    "real-iad-nested": real_iad_nested,
    "real-iad-variety": real_iad_variety,
    "vision": vision,
    "reinad": reinad,
    "deeppcb": deeppcb,
    "coco": coco,
    "yolo": yolo,
    "voc": voc,
    "labelme": labelme,
    "folder": folder,
    "folder-tree": folder_tree,
}


#: Layout → the DATASET of the command line.
DATASETS = {
    name: {
        "ds-mvtec": "mvtec",
        "visa-1cls": "visa",
        "goodsad-mask": "goodsad",
        "real-iad-nested": "real-iad",
        "folder-tree": "folder",
    }.get(name, name)
    for name in LAYOUTS
}
