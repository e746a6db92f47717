"""The book of a ladder: a page for each rung."""
