"""The public DeepPCB dataset and its converter."""
