"""`adcopilot eval attention`: how much an answer attends to comparison tokens, by layer and task (Figure 6)."""
