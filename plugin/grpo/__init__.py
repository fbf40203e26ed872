"""Stage 3: GRPO with verifiable rewards (the paper's section V)."""
