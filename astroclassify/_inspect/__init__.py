"""The page to look at candidates and vote on them: a server for this computer alone, and the journal of the votes."""
