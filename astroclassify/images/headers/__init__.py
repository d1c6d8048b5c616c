"""What headers say: cards, units, coordinates, channels, the observation."""
