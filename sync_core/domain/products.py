"""The catalog: what is sold, in which categories, at what price. Tills read it; who manages it changes it.

Source: seed 003 (9. Categories/Prices Update), domain-more.md B.
"""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document, Part
from sync_core.domain.fields import Amount, DocumentID, Label, Names, at_most_bytes, plain_extras
from sync_core.events import EventType

__all__ = ["COMMANDS", "EVENT_TYPES", "Catalog", "Category", "Price"]

MAX_CATEGORIES = 200
MAX_PRICES = 2000
MAX_CATEGORIES_BYTES = 32 * 1024
MAX_PRICES_BYTES = 192 * 1024
"""With these a catalog leaves as one event of at most 256 KiB."""

CatalogID = Annotated[DocumentID, Names("catalog")]


class Category(Part):
    name: Label


class Price(Part):
    """What one *name* costs, in one of the categories."""

    name: Label
    category: Label
    price: Amount


class Catalog(Document):
    """One catalog; most have one, called ``main``. It is there from the first time that something is set in it."""

    kind: ClassVar[str] = "catalog"
    plural: ClassVar[str] = "catalogs"
    id_key: ClassVar[str] = "catalogID"
    view_permission: ClassVar[str] = "view_catalog"

    catalogID: DocumentID
    categories: tuple[Category, ...] = ()
    prices: tuple[Price, ...] = ()

    @classmethod
    def path(cls) -> str:
        return "catalog"


EVENT_TYPES = (EventType("categories_updated", document="catalog"), EventType("prices_updated", document="catalog"))


def _distinct(parts: tuple[Category | Price, ...]) -> tuple[Category | Price, ...]:
    seen: set[object] = set()
    for part in parts:
        name = (part.category, part.name) if isinstance(part, Price) else part.name
        if name in seen:
            raise ValueError(f"{part.name!r} is there twice")
        seen.add(name)
    return parts


GivenCategories = Annotated[
    tuple[Annotated[Category, AfterValidator(plain_extras)], ...],
    Field(max_length=MAX_CATEGORIES),
    AfterValidator(_distinct),
    AfterValidator(at_most_bytes(MAX_CATEGORIES_BYTES)),
]
GivenPrices = Annotated[
    tuple[Annotated[Price, AfterValidator(plain_extras)], ...],
    Field(max_length=MAX_PRICES),
    AfterValidator(_distinct),
    AfterValidator(at_most_bytes(MAX_PRICES_BYTES)),
]


class SetCategories(CommandInput):
    catalogID: CatalogID
    categories: GivenCategories


@command(
    "PUT",
    "/catalog/{catalogID}/categories",
    target=Catalog,
    permission="manage_catalog",
    emits=["categories_updated"],
    guarded=True,
)
def set_categories(cafe: Changes, given: SetCategories) -> None:
    """Say which categories there are, in their order. One that still has prices cannot go."""
    catalog = cafe.find(Catalog, given.catalogID) or Catalog(catalogID=given.catalogID)
    changed = catalog.model_copy(update={"categories": given.categories})
    _check(changed, catalog)
    cafe.put(changed, "categories_updated")


class SetPrices(CommandInput):
    catalogID: CatalogID
    prices: GivenPrices


@command(
    "PUT",
    "/catalog/{catalogID}/prices",
    target=Catalog,
    permission="manage_catalog",
    emits=["prices_updated"],
    guarded=True,
)
def set_prices(cafe: Changes, given: SetPrices) -> None:
    """Say what everything costs, in its order, each in a category that is there."""
    catalog = cafe.find(Catalog, given.catalogID) or Catalog(catalogID=given.catalogID)
    changed = catalog.model_copy(update={"prices": given.prices})
    _check(changed, catalog)
    cafe.put(changed, "prices_updated")


def _check(changed: Catalog, catalog: Catalog) -> None:
    """Raises RuleConflict, with the *catalog* as it stands, if a price of *changed* has no category."""
    names = {category.name for category in changed.categories}
    lost = next((price for price in changed.prices if price.category not in names), None)
    if lost is not None:
        stands = (catalog,) if catalog.version else ()
        raise RuleConflict(f"{lost.name} is in category {lost.category}, which there is not.", *stands)


COMMANDS = (set_categories, set_prices)
