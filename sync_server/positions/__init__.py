"""Where the vehicles are: kept beside the event log, since a position is worth nothing a minute later."""
