"""Any image in: to pixels on the network's grid, and to tables."""
