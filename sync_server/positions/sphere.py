"""Distances along great circles, on a sphere of the earth's mean radius.

A place is a point of the unit sphere: the straight way through it between two points, the chord, grows with the great
circle's, so the nearest by the one are the nearest by the other, without a seam at 180 degrees or at the poles.
"""

from math import asin, cos, pi, radians, sin, sqrt
from typing import NamedTuple

__all__ = ["EARTH_RADIUS_M", "HALF_ROUND_M", "Vector", "chord", "distance_m", "vector"]

EARTH_RADIUS_M = 6_371_008.8
"""The mean radius of WGS 84; the sphere is off by up to 0.5 % from the ellipsoid."""
HALF_ROUND_M = pi * EARTH_RADIUS_M
"""Nothing is farther away."""


class Vector(NamedTuple):
    """A point of the unit sphere."""

    x: float
    y: float
    z: float


def vector(lon: float, lat: float) -> Vector:
    """The point at *lon* and *lat*, in degrees."""
    flat = cos(radians(lat))
    return Vector(flat * cos(radians(lon)), flat * sin(radians(lon)), sin(radians(lat)))


def chord(within_m: float) -> float:
    """The straight way, in radii, between two points *within_m* apart on the sphere."""
    return 2 * sin(min(within_m, HALF_ROUND_M) / EARTH_RADIUS_M / 2)


def distance_m(a: Vector, b: Vector) -> float:
    """Along the great circle."""
    way = sqrt((a.x - b.x) ** 2 + (a.y - b.y) ** 2 + (a.z - b.z) ** 2)
    return 2 * EARTH_RADIUS_M * asin(min(way / 2, 1.0))
