"""Real sky to candidates and cutouts. This room is empty in this version; see the development plan in the docs."""
