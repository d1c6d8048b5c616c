"""Scores, their comparison, and the protocols that make them."""
