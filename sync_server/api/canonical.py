"""The fingerprint of a request: the same request in another field order is the same request."""

from hashlib import blake2b
from typing import Any

from pydantic_core import to_json

__all__ = ["fingerprint_of"]


def fingerprint_of(*parts: Any) -> str:
    """A digest of JSON values, whatever the order of their objects' fields."""
    return blake2b(to_json([_sorted(part) for part in parts]), digest_size=16).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
