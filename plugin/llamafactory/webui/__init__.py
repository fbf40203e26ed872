"""LlamaFactory's pages with AD-Copilot: `board.py` (the settings of a run), `webchat.py` and `webchat_model.py` (chat)."""
