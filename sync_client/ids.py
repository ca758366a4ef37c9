"""Ids for documents that are made on this machine, long before the server hears of them."""

import secrets

__all__ = ["new_id"]

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def new_id() -> str:
    """An id that can be read out loud, as the server makes them: 12 characters, about 59 bits, none of them alike."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))
