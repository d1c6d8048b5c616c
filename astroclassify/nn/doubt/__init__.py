"""How far an answer can be trusted: calibration, novelty, spread."""
