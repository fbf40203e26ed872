"""`adcopilot eval report`: the paper's tables and plots of any runs, beside published rows."""
