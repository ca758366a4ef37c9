"""Labels: what an audience names, and what a caller goes by.

    user:12     one person
    role:csr    all who hold a role

An audience may also name an entity (``bayID=B1``, see filters.tag): who is bound to it. Source: protocol.md 1.
"""

__all__ = ["ADMINS", "PERSON", "ROLE", "person_label", "role_label", "user_of"]

PERSON = "user:"
"""Labels of one person begin with it; all others are shared by many."""
ROLE = "role:"
"""Labels of those who hold a role begin with it."""


def person_label(user: str) -> str:
    """``person_label("12") == "user:12"``"""
    return f"{PERSON}{user}"


def role_label(role: str) -> str:
    """``role_label("csr") == "role:csr"``"""
    return f"{ROLE}{role}"


def user_of(principal: str) -> str:
    """Whom *principal* is, as documents name people: ``12`` for ``user:12``. A machine's (``key:...``) is its name."""
    return principal.removeprefix(PERSON)


ADMINS = role_label("admin")
"""Of those who see what belongs to others."""
