"""Places on the earth: GeoJSON points (RFC 7946, longitude first), and what a vehicle says of where it is.

Degrees are kept to seven places, a centimetre.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sync_core.domain.document import Part
from sync_core.domain.fields import Timestamp, plain_extras

__all__ = ["GivenPoint", "Latitude", "Longitude", "Point", "Position"]


def _degrees(value: float) -> float:
    return round(value, 7) + 0.0  # there is a -0.0


Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False), AfterValidator(_degrees)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False), AfterValidator(_degrees)]


class Point(Part):
    """A GeoJSON point."""

    type: Literal["Point"] = "Point"
    coordinates: Annotated[tuple[Longitude, Latitude], Field(examples=[[35.5018, 33.8938]])]


GivenPoint = Annotated[Point, AfterValidator(plain_extras)]


class Position(BaseModel):
    """Where a vehicle is. *heading* in degrees clockwise from north, *speed* in km/h, *at* when it was there (now)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lon: Longitude = Field(examples=[35.5018])
    lat: Latitude = Field(examples=[33.8938])
    heading: float | None = Field(default=None, ge=0, lt=360, allow_inf_nan=False, examples=[270])
    speed: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False, examples=[48.5])
    at: Timestamp | None = None
