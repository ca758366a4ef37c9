"""Labels: who is meant, from the name to the label and back."""

from sync_core.labels import ADMINS, person_label, role_label, user_of


def test_a_person_is_found_again_in_the_label() -> None:
    assert person_label("12") == "user:12"
    assert user_of(person_label("user:12")) == "user:12"


def test_a_machine_goes_by_its_own_name() -> None:
    assert user_of("key:abc") == "key:abc"


def test_admins_are_who_hold_that_role() -> None:
    assert role_label("admin") == ADMINS
