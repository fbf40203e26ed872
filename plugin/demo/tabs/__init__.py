"""The page's two tabs: one part, and many."""
