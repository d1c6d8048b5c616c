"""Simulated XMM fields, candidates and optical plates."""
