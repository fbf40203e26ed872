"""MMAD: multiple-choice questions about industrial images, in the benchmark's own files and by its own rules."""
