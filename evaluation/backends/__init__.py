"""Models on this machine that answer: `transformers_backend`, `vllm_backend`. Endpoints: `adcopilot.answering.api`."""
