"""VISION: fourteen sets in COCO's form (`coco`), whose unannotated images are not known to be good.

SET/{train,val,inference}/_annotations.coco.json
"""

from .base import Source
from .coco import VISION_OPTIONS as OPTIONS
from .coco import annotation_files, scan

__all__ = ["OPTIONS", "looks_like", "scan"]


def looks_like(source: Source) -> bool:
    """Whether there is an annotation file of VISION's name."""
    return any(name.endswith("_annotations.coco.json") for name in annotation_files(source))
