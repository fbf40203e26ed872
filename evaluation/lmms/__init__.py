"""MMAD as a task of lmms-eval: our prompts, parser and scorer under its runner (docs/evaluation-lmms.md)."""
