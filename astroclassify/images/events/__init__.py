"""Event lists: columns, coordinates, band and good time of each mission; images of them."""
