"""The page on which people look at candidates and vote: server, journal of the votes, report of predictions."""
