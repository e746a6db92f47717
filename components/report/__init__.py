"""The page that a pipeline leaves, and its pictures."""
