"""VISION: fourteen sets in COCO's form (`coco`), whose unannotated images are not known to be good."""

from .coco import VISION_OPTIONS as OPTIONS
from .coco import looks_like, scan

__all__ = ["OPTIONS", "looks_like", "scan"]
