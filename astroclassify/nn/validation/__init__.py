"""Protocols that train and predict: folds, several seeds, learning curves."""
