"""Which images are fit to train on: sharpness and exposure, duplicates, leaks of evaluation sets, the ratio."""
