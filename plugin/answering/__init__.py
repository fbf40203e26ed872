"""Questions about pictures put to any model: items, prompts, sizes, families, and an endpoint that answers."""
