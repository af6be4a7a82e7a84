"""Where a complaint is: a point inside the city, an address, or both (SOP step 1, "lokasi").

The city's shape is data, a GeoJSON file (RFC 7946, longitude before latitude): one feature with ``"kind":
"boundary"``, and one with ``"kind": "district"`` and a ``name`` for each kecamatan, as an area or as its centre. The
file that comes with this service is drawn by hand; the city's official one takes its place by a setting.
"""

import json
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from shapely import intersects_xy, points, prepare
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import explain_validity

from shared.events import Place

DEFAULT_CITY = Path(__file__).parent / "data" / "pontianak.geojson"
ADDRESS_LENGTH = (10, 300)
"""Characters of an address, from and to, once cleaned."""


class CityFileUnusable(Exception):
    """The city's GeoJSON file cannot be used; the message names the file and what is wrong with it."""


class PlaceRefused(Exception):
    """The place is not accepted; ``field`` is the one to look at, ``message_id`` is for the citizen, in
    Indonesian."""

    def __init__(self, field: str, message: str, message_id: str) -> None:
        super().__init__(message)
        self.field = field
        self.message_id = message_id


@dataclass(frozen=True, slots=True)
class City:
    """The boundary and the districts, by name and in the file's order. Make it once (``load``); its look-ups are
    pure."""

    boundary: BaseGeometry = field(repr=False)
    districts: dict[str, BaseGeometry]
    _areas: Any = field(init=False, repr=False)

    @classmethod
    def load(cls, path: Path = DEFAULT_CITY) -> "City":
        """Raises CityFileUnusable."""
        try:
            features = json.loads(path.read_text(encoding="utf-8"))["features"]
            kinds = [(feature["properties"] or {}).get("kind") for feature in features]
            shapes = [shape(feature["geometry"]) for feature in features]
        except OSError as error:
            raise CityFileUnusable(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise CityFileUnusable(f"{path}: is not JSON or has a malformed geometry: {error}") from error
        except (KeyError, TypeError, AttributeError, IndexError, ShapelyError) as error:
            raise CityFileUnusable(f"{path}: is not a GeoJSON FeatureCollection (RFC 7946): {error!r}") from error
        if kinds.count("boundary") != 1:
            raise CityFileUnusable(
                f'{path}: has {kinds.count("boundary")} features with "kind": "boundary" among their properties, '
                "and needs exactly one: the city's area"
            )
        boundary = shapes[kinds.index("boundary")]
        if boundary.geom_type not in ("Polygon", "MultiPolygon") or boundary.is_empty or not boundary.is_valid:
            raise CityFileUnusable(f"{path}: the boundary is not an area: {explain_validity(boundary)}")
        return cls(boundary, _districts(path, features, kinds, shapes, boundary))

    def __post_init__(self) -> None:
        areas = [self.boundary, *self.districts.values()]
        prepare(areas)
        object.__setattr__(self, "_areas", np.array(areas))  # the only time that it is set

    def locate(self, longitude: float, latitude: float) -> str | None:
        """The district of a point (WGS 84, degrees), or None outside of the city. The boundary itself is inside; a
        point between two districts is in the nearest, and of several as near in the file's first."""
        inside, *within = intersects_xy(self._areas, longitude, latitude).tolist()  # one call, since a call costs most
        if not inside:
            return None
        if any(within):
            return next(compress(self.districts, within))
        point = points([longitude, latitude])
        return min(self.districts, key=lambda name: self.districts[name].distance(point))

    def place(
        self,
        longitude: float | None = None,
        latitude: float | None = None,
        address: str | None = None,
        district: str | None = None,
    ) -> Place:
        """The place that a citizen gave, checked and cleaned. A point decides the district; without one it is what
        the citizen says. Raises PlaceRefused."""
        address = _cleaned(address)
        if longitude is not None and latitude is not None:
            district = self.locate(longitude, latitude)
            if district is None:
                raise PlaceRefused(
                    "longitude",
                    f"The point {latitude:.6g}, {longitude:.6g} (latitude, longitude) is outside of the city.",
                    "Titik lokasi berada di luar Kota Pontianak.",
                )
        elif longitude is not None or latitude is not None:
            raise PlaceRefused(
                "latitude" if latitude is None else "longitude",
                "Give both longitude and latitude, or neither.",
                "Titik lokasi harus memuat bujur dan lintang.",
            )
        elif address is None:
            raise PlaceRefused(
                "address",
                "Say where it is: a point on the map or an address.",
                "Isi lokasi kejadian: titik pada peta atau alamat.",
            )
        elif district is not None:
            district = self._named(district)
        return Place(longitude=longitude, latitude=latitude, address=address, district=district)

    def _named(self, district: str) -> str:
        for name in self.districts:
            if name.casefold() == district.strip().casefold():
                return name
        names = ", ".join(self.districts)
        raise PlaceRefused(
            "district", f"There is no such district; choose among {names}.", f"Pilih salah satu kecamatan: {names}."
        )


def _districts(
    path: Path, features: list[dict[str, Any]], kinds: list[str | None], shapes: list[BaseGeometry], city: BaseGeometry
) -> dict[str, BaseGeometry]:
    districts: dict[str, BaseGeometry] = {}
    for feature, kind, area in zip(features, kinds, shapes, strict=True):
        if kind != "district":
            continue
        name = feature["properties"].get("name")
        if not isinstance(name, str) or not name.strip() or name in districts:
            raise CityFileUnusable(f"{path}: each district needs a name of its own, and one has {name!r}")
        if area.is_empty or not area.is_valid:
            raise CityFileUnusable(f"{path}: the shape of district {name} is wrong: {explain_validity(area)}")
        if not city.intersects(area):
            raise CityFileUnusable(f"{path}: the district {name} lies outside of the boundary")
        districts[name] = area
    if not districts:
        raise CityFileUnusable(f'{path}: has no feature with "kind": "district" among its properties')
    return districts


def _cleaned(address: str | None) -> str | None:
    """One line without control characters; None if nothing is left."""
    text = " ".join("".join(c if c.isprintable() else " " for c in address or "").split())
    shortest, longest = ADDRESS_LENGTH
    if text and not shortest <= len(text) <= longest:
        raise PlaceRefused(
            "address",
            f"An address has {shortest} to {longest} characters; this one has {len(text)}.",
            f"Alamat terdiri atas {shortest} sampai {longest} karakter.",
        )
    return text or None
