"""What our HTML pages have in common: escaping, style, script, policy, and a gallery of records."""
