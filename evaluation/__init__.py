"""Evaluation of AD-Copilot and other models on industrial anomaly detection benchmarks."""
