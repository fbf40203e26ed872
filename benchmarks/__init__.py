"""Measurements whose results stand in `docs/results/`. Not part of the installed package."""
