"""The catalog: categories and prices."""

from typing import Any

import pytest
from pydantic import ValidationError

from sync_core.domain import products
from sync_core.domain.changes import RuleConflict
from sync_core.domain.products import MAX_CATEGORIES_BYTES, MAX_PRICES_BYTES, Catalog
from sync_core.events import MAX_EVENT_BYTES
from tests.core.domain.shop import Shop, data_of

DRINKS = {"name": "مشروبات"}
COLA: dict[str, Any] = {"name": "كولا", "category": "مشروبات", "price": "1000"}


def catalog(shop: Shop) -> Catalog:
    found = shop.find(Catalog, "main")
    assert found is not None
    return found


def test_a_catalog_is_there_from_the_first_time_that_something_is_set() -> None:
    shop = Shop()
    (event,) = shop.do(products.set_categories, catalogID="main", categories=[DRINKS])
    assert (event.event_type, event.tags) == ("categories_updated", ("catalogID=main",))
    (event,) = shop.do(products.set_prices, catalogID="main", prices=[COLA])
    assert event.event_type == "prices_updated"
    assert data_of(event) == {
        "catalog": {
            "version": 2, "catalogID": "main", "categories": [DRINKS], "prices": [COLA | {"price": "1000.00"}],
        }
    }  # fmt: skip


def test_every_price_has_a_category() -> None:
    shop = Shop()
    with pytest.raises(RuleConflict, match="كولا is in category مشروبات, which there is not") as caught:
        shop.do(products.set_prices, catalogID="main", prices=[COLA])
    assert caught.value.documents == ()
    shop.do(products.set_categories, catalogID="main", categories=[DRINKS])
    shop.do(products.set_prices, catalogID="main", prices=[COLA])
    with pytest.raises(RuleConflict) as caught:
        shop.do(products.set_categories, catalogID="main", categories=[])
    assert caught.value.documents == (catalog(shop),)
    shop.do(products.set_prices, catalogID="main", prices=[])
    shop.do(products.set_categories, catalogID="main", categories=[])
    assert (catalog(shop).categories, catalog(shop).prices) == ((), ())


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (products.set_categories, {"categories": [DRINKS, DRINKS]}),
        (products.set_prices, {"prices": [COLA, COLA]}),
        (products.set_prices, {"prices": [COLA | {"price": 1000}]}),
        (products.set_categories, {"categories": [{"name": "x" * 200, "n": "x" * MAX_CATEGORIES_BYTES}]}),
        (products.set_prices, {"prices": [COLA | {"n": "x" * MAX_PRICES_BYTES}]}),
    ],
)
def test_wrong_ones_are_refused(command: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shop().do(command, catalogID="main", **given)


def test_the_fullest_catalog_fits_into_an_event() -> None:
    shop = Shop()
    shop.do(products.set_categories, catalogID="main", categories=[{"name": "c", "n": "x" * (32 * 1024 - 100)}])
    shop.do(products.set_prices, catalogID="main", prices=[COLA | {"category": "c", "n": "x" * (192 * 1024 - 200)}])
    assert 220_000 < max(len(text.encode()) for text in shop.log) < MAX_EVENT_BYTES
