"""Measurements of the server's speed, beside nginx+nchan where that can do the same. See __main__.py."""
