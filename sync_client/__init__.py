"""The client library: the state machine that follows a feed through crashes and bad networks."""
