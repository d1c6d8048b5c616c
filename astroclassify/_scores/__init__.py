"""Tables of predictions to scores, their curves and comparisons. All of it is public in `astroclassify.nn`."""
