"""`adcopilot demo`: a web page that compares pictures of parts with pictures of good ones."""
