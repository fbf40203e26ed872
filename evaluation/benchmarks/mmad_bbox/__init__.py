"""MMAD-BBox: where the defects of MMAD's images are."""
