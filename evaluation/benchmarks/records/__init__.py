"""`adcopilot eval records`: one's own labelled records, each asked and scored as its task says (`adcopilot.tasks`)."""
