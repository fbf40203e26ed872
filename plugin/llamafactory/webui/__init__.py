"""LlamaFactory's pages: a run's settings (`board.py`), chat with templates (`webchat.py`, `webchat_model.py`)."""
