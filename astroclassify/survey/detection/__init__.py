"""Sources of a field: wavelet search, fits and classes in one call; completeness."""
