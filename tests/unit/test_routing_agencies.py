"""The agency directory's file: what is read, and each fault named by line and column."""

import json
from pathlib import Path

import pytest

from services.routing.agencies import STARTING_SET, AgencyRow, UnusableFile, read

HEADING = "code,name,categories,units\n"
CATEGORIES = Path(__file__).parents[2] / "services" / "intake" / "data" / "categories.json"


def file(folder: Path, text: str | bytes) -> Path:
    path = folder / "agencies.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_starting_set_serves_exactly_the_categories_of_complaints() -> None:
    rows = read(STARTING_SET)
    assert len(rows) >= 20
    served = {category for row in rows for category in row.categories}
    assert served == {category["code"] for category in json.loads(CATEGORIES.read_text())}
    assert all(row.units for row in rows)


def test_a_row(tmp_path: Path) -> None:
    """With a byte order mark, as spreadsheets write it, quotes, and blanks about what is listed."""
    text = "\ufeff" + HEADING + '"DLH"," Dinas Lingkungan Hidup, Kota ", waste | parks_trees |,Sekretariat\n'
    assert read(file(tmp_path, text)) == [
        AgencyRow("DLH", "Dinas Lingkungan Hidup, Kota", ("waste", "parks_trees"), ("Sekretariat",))
    ]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("dlh,Dinas,waste,\n", "line 2, column code: 'dlh' is not 2 to 20 capitals, digits and hyphens"),
        ("DLH,Dinas,waste,\nDPUPR,D,roads,\n", "line 3, column name: needs 3 to 200 characters"),
        ("DLH,Dinas,Waste,\n", "line 2, column categories: 'Waste' is not a category's code"),
        ("DLH,Dinas,|,\n", "line 2, column categories: needs at least one"),
        ("DLH,Dinas,waste\n", "line 2, needs exactly 4 columns"),
        ("DLH,Dinas,waste,,more\n", "line 2, needs exactly 4 columns"),
        ("DLH,Dinas,waste,\nDLH,Dinas,waste,\n", "line 3, column code: DLH stands in line 2 already"),
        ('DLH,"Dinas\nLingkungan",waste,\nx,Dinas,waste,\n', "line 4, column code: 'x'"),
        ("", "there is no agency in it"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, rows: str, fault: str) -> None:
    with pytest.raises(UnusableFile) as refused:
        read(file(tmp_path, HEADING + rows))
    assert fault in str(refused.value)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile) as refused:
        read(file(tmp_path, HEADING + "a,Dinas,waste,\nDLH,D,Waste,\n"))
    assert [line.split(", ", 1)[1][:20] for line in str(refused.value).splitlines()] == [
        "line 2, column code:",
        "line 3, column name:",
        "line 3, column categ"[:20],
    ]


@pytest.mark.parametrize("text", [b"", b"kode,nama\nDLH,Dinas\n", b"code,name,categories,units\nDLH,\xff\xfe,x,\n"])
def test_what_is_no_such_file(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(UnusableFile, match=r"agencies\.csv"):
        read(file(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="No such file"):
        read(tmp_path / "none.csv")
