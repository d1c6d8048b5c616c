"""Gas of halos: snapshots and the TNG API, units, what is measured of the gas."""
