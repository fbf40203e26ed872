"""What a recipe may say, and Table I."""
