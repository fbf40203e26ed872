"""README's first picture: a window of a real board of DeepPCB (MIT), compared with its template, without a model.

    git clone https://github.com/tangsanli5201/DeepPCB
    python docs/images/first.py DeepPCB/PCBData docs/images/first.png

The threshold comes from good windows of other boards (of `trainval.txt`), as `adcopilot calibrate none` finds one; the
picture is what `adcopilot inspect --model none --draw` draws, made smaller.
"""

import sys
from pathlib import Path

from PIL import Image

from adcopilot.anomaly_map.comparing import MapSettings
from adcopilot.drawing import draw_result
from adcopilot.errors import UserError
from adcopilot.inspect.judging import Judge
from adcopilot.inspect.map_inspector import MapInspector
from adcopilot.line.thresholds import from_good

#: The board that is shown (of `test.txt`), and the window of it that is compared.
BOARD, WINDOW = "group20085/20085/20085291", (240, 196, 496, 452)
#: DeepPCB's boxes are so many pixels away from the defect.
GROWTH = 6
GOOD = 20
WIDTH = 1200


def windows(data: Path) -> list[tuple[Image.Image, Image.Image]]:
    """(template, query) of windows in which DeepPCB marks no defect, one a board."""
    found = []
    for line in (data / "trainval.txt").read_text().splitlines():
        image, boxes = (data / name for name in line.split())
        marked = [[int(value) for value in box.split()[:4]] for box in boxes.read_text().splitlines()]
        for x, y in ((0, 0), (384, 0), (0, 384), (384, 384)):
            if not any(x1 < x + 256 and x2 > x and y1 < y + 256 and y2 > y for x1, y1, x2, y2 in marked):
                found.append(pair(image.with_suffix(""), (x, y, x + 256, y + 256)))
                break
        if len(found) == GOOD:
            break
    return found


def pair(board: Path, window: tuple[int, int, int, int]) -> tuple[Image.Image, Image.Image]:
    """(template, query) of a window of a board."""
    return tuple(Image.open(f"{board}_{role}.jpg").convert("RGB").crop(window) for role in ("temp", "test"))


def main(data: str, output: str) -> None:
    """Draw it."""
    if not (Path(data) / "trainval.txt").is_file():
        raise UserError(f"{data}: no trainval.txt in it, expected DeepPCB's folder PCBData; clone it as above")
    settings = MapSettings(growth=GROWTH)
    good = MapInspector(map=settings, judge=Judge(source="map")).inspect_many(windows(Path(data)))
    # some windows are their template, pixel for pixel: they say nothing of how good boards differ
    threshold = from_good([one.score for one in good if one.score is not None], of_map=True).value
    judge = Judge(source="map", map_threshold=threshold)
    template, query = pair(Path(data, BOARD), WINDOW)
    [result] = MapInspector(map=settings, judge=judge).inspect_many([(template, query)])
    picture = draw_result(
        template=template,
        query=query,
        boxes=[{**box, "label": ""} for box in result.boxes],
        anomalous=result.anomalous,
        score=result.score,
        reason=result.reason,
        template_name="a good board",
        query_name="the board to inspect",
        anomaly_map=result.map,
        map_threshold=threshold,
    )
    picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    picture.quantize(128).save(output, optimize=True)
    print(f"{output}: score {result.score:.3f}, threshold {threshold:.3f}, {len(result.boxes)} boxes")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except (UserError, TypeError) as error:
        sys.exit(f"error: {error}; python docs/images/first.py PCBDATA OUTPUT.png")
