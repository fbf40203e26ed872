"""The commands of `adcopilot data`, one a file."""
