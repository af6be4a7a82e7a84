"""Places: the city's shape, the districts in it, and what a citizen may say of where something is."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import Point, unary_union

from services.intake.place import DEFAULT_CITY, City, CityFileUnusable, PlaceRefused

CITY = City.load()
DISTRICTS = ("Kota", "Barat", "Selatan", "Tenggara", "Timur", "Utara")
WEST, SOUTH, EAST, NORTH = CITY.boundary.bounds


@pytest.mark.parametrize(
    ("longitude", "latitude", "district"),
    [
        (109.3222, 0.0008, "Pontianak Utara"),  # Tugu Khatulistiwa
        (109.3410, -0.0221, "Pontianak Kota"),  # the mayor's office
        (109.3490, -0.0258, "Pontianak Timur"),  # Keraton Kadriah
        (109.3430, -0.0400, "Pontianak Selatan"),  # Pasar Flamboyan
        (109.3485, -0.0557, "Pontianak Tenggara"),  # Universitas Tanjungpura
        (109.3030, -0.0160, "Pontianak Barat"),  # Jeruju
        (109.1000, 0.0000, None),  # the sea
        (109.4040, -0.1500, None),  # Supadio airport, in Kubu Raya
        (108.9800, 0.9000, None),  # Singkawang
        (106.8270, -6.1750, None),  # Jakarta
        (0.0000, 0.0000, None),
        (-0.0221, 109.3410, None),  # the two swapped
    ],
)
def test_known_places(longitude: float, latitude: float, district: str | None) -> None:
    assert CITY.locate(longitude, latitude) == district


def test_the_default_file_is_whole() -> None:
    assert tuple(CITY.districts) == tuple(f"Pontianak {name}" for name in DISTRICTS)
    assert unary_union(list(CITY.districts.values())).symmetric_difference(CITY.boundary).area < 1e-12
    for name, area in CITY.districts.items():
        centre = area.representative_point()
        assert CITY.boundary.contains(area.centroid)
        assert CITY.locate(centre.x, centre.y) == name
    for one in CITY.districts.values():
        assert sum(one.intersection(other).area for other in CITY.districts.values()) == pytest.approx(one.area)
    for feature in json.loads(DEFAULT_CITY.read_text())["features"]:
        assert feature["properties"]["approximate"] is True


@given(st.floats(WEST - 0.05, EAST + 0.05), st.floats(SOUTH - 0.05, NORTH + 0.05))
def test_inside_has_a_district_and_outside_has_none(longitude: float, latitude: float) -> None:
    point, district = Point(longitude, latitude), CITY.locate(longitude, latitude)
    assert (district is not None) == CITY.boundary.covers(point)
    if district is not None:
        assert CITY.districts[district].distance(point) < 1e-9
        assert CITY.place(longitude, latitude).district == district


@given(st.floats(0, 1), st.sampled_from(sorted(CITY.districts)))
def test_a_shared_edge_belongs_to_one_district(share: float, name: str) -> None:
    point = CITY.districts[name].exterior.interpolate(share, normalized=True)
    first = CITY.locate(point.x, point.y)
    assert first == City.load().locate(point.x, point.y), "the same in every process"
    if first is not None:
        assert list(CITY.districts).index(first) <= list(CITY.districts).index(name) or not CITY.districts[name].covers(
            point
        )


def test_every_corner_of_the_boundary_is_inside() -> None:
    for longitude, latitude in CITY.boundary.exterior.coords:
        assert CITY.locate(longitude, latitude) is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_numbers_that_are_no_place(value: float) -> None:
    assert CITY.locate(value, -0.02) is None
    assert CITY.locate(109.34, value) is None
    with pytest.raises(PlaceRefused, match="outside of the city"):
        CITY.place(value, value)


def test_a_point_decides_the_district() -> None:
    place = CITY.place(109.3410, -0.0221, "  Jalan Rahadi\tUsman\n No. 3 ", "Pontianak Utara")
    assert place.model_dump() == {
        "longitude": 109.3410,
        "latitude": -0.0221,
        "address": "Jalan Rahadi Usman No. 3",
        "district": "Pontianak Kota",
    }


def test_an_address_is_enough() -> None:
    place = CITY.place(address="Jalan Gajah Mada 5", district=" pontianak SELATAN ")
    assert (place.longitude, place.latitude, place.district) == (None, None, "Pontianak Selatan")
    assert CITY.place(address="Jalan Gajah Mada 5").district is None


@pytest.mark.parametrize(
    ("given_place", "field", "told"),
    [
        ({}, "address", "a point on the map or an address"),
        ({"address": " \n\t "}, "address", "a point on the map or an address"),
        ({"longitude": 109.34}, "latitude", "both longitude and latitude"),
        ({"latitude": -0.02, "address": "Jalan Gajah Mada 5"}, "longitude", "both longitude and latitude"),
        ({"longitude": 106.827, "latitude": -6.175}, "longitude", r"-6.175, 106.827 .* outside of the city"),
        ({"address": "Jl. Veter"}, "address", "10 to 300 characters; this one has 9"),
        ({"address": "a         " * 2}, "address", "this one has 3"),
        ({"address": "x" * 301}, "address", "this one has 301"),
        ({"longitude": 109.3410, "latitude": -0.0221, "address": "sini"}, "address", "this one has 4"),
        (
            {"address": "Jalan Gajah Mada 5", "district": "Pontianak Tengah"},
            "district",
            "choose among Pontianak Kota, ",
        ),
    ],
)
def test_refused_places_name_the_field(given_place: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(PlaceRefused, match=told) as refused:
        CITY.place(**given_place)
    assert refused.value.field == field
    assert refused.value.message_id.endswith(".")


@given(st.text(max_size=400))
def test_an_address_is_one_clean_line_or_refused(text: str) -> None:
    try:
        address = CITY.place(109.3410, -0.0221, text).address
    except PlaceRefused:
        return
    if address is not None:
        assert 10 <= len(address) <= 300
        assert address.isprintable()
        assert address == CITY.place(address=address).address


def square(west: float, south: float, size: float) -> dict[str, Any]:
    east, north = west + size, south + size
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


def feature(kind: str, geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"kind": kind, **properties}, "geometry": geometry}


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


BOUNDARY = feature("boundary", square(0, 0, 10))
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}


def test_districts_can_be_centres(tmp_path: Path) -> None:
    path = tmp_path / "city.geojson"
    centres = [
        feature("district", {"type": "Point", "coordinates": [x, 5]}, name=name)
        for x, name in ((2, "West"), (8, "East"))
    ]
    path.write_text(json.dumps(collection(BOUNDARY, *centres, feature("river", square(1, 1, 1)))))
    city = City.load(path)
    assert (city.locate(1, 9), city.locate(9, 1), city.locate(5, 5), city.locate(11, 5)) == (
        "West",
        "East",
        "West",
        None,
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Kota Pontianak", "is not JSON"),
        ("[]", "is not a GeoJSON FeatureCollection"),
        ('{"type": "Polygon", "coordinates": []}', "is not a GeoJSON FeatureCollection"),
        (collection(), '0 features with "kind": "boundary"'),
        (collection({"type": "Feature", "properties": None, "geometry": square(0, 0, 1)}), "0 features"),
        (collection(BOUNDARY, BOUNDARY), "2 features"),
        (collection(feature("boundary", None)), "is not a GeoJSON FeatureCollection"),
        (collection(feature("boundary", {"type": "Polygon", "coordinates": [[[0, 0], [1]]]})), "wrong|malformed|not a"),
        (collection(feature("boundary", {"type": "Point", "coordinates": [1, 1]})), "the boundary is not an area"),
        (collection(feature("boundary", BOW_TIE)), "the boundary is not an area: Self-intersection"),
        (collection(BOUNDARY), 'no feature with "kind": "district"'),
        (collection(BOUNDARY, feature("district", square(0, 0, 5))), "needs a name"),
        (collection(BOUNDARY, *[feature("district", square(0, 0, 5), name="A")] * 2), "a name of its own"),
        (collection(BOUNDARY, feature("district", BOW_TIE, name="A")), "district A is wrong"),
        (collection(BOUNDARY, feature("district", square(50, 50, 5), name="A")), "A lies outside"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: Any, told: str) -> None:
    path = tmp_path / "city.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(CityFileUnusable, match=told) as refused:
        City.load(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CityFileUnusable, match="No such file"):
        City.load(tmp_path / "missing.geojson")
