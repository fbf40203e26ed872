"""Captions of what differs between two images: OmniDiff-Real (the paper's Table V), Spot-the-diff, CLEVR-Change."""
