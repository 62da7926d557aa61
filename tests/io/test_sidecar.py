"""Small JSON files: the same content gives the same bytes, and bad ones say why."""

from pathlib import Path

import pytest

from medsynth.errors import DataError
from medsynth.io.sidecar import read_json, write_json


def test_round_trip_and_stable_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": {"name": "Ödem"}})
    write_json(tmp_path / "b.json", {"a": {"name": "Ödem"}, "b": [1, 2.5]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5], "a": {"name": "Ödem"}}
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "windows.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "windows.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"{", "JSON"), (b"[1]", "list"), (b"\xff\xfe", "utf-8")],
)
def test_what_is_no_json_object(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_json(path)
    assert caught.value.where == str(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        read_json(tmp_path / "x.json")
