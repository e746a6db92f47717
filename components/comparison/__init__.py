"""Comparisons: every way to adapt a base, tuned under one budget and judged on equal footing."""
