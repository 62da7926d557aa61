"""Bytes: gzip with and without its name, damage, and what the system refuses."""

import gzip
from pathlib import Path

import pytest
from isal import igzip

from medsynth.errors import DataError
from medsynth.io.files import fill, reading, writing

CONTENT = bytes(range(256)) * 4096


def _read(path: Path) -> bytes:
    with reading(path) as stream:
        content = fill(stream, len(CONTENT), path).tobytes()
        stream.read(1)
    return content


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("plain.nii", CONTENT),
        ("zlib.nii.gz", gzip.compress(CONTENT)),
        ("igzip.nii.gz", igzip.compress(CONTENT, 1)),
        ("members.nii.gz", gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:])),
        ("equal_members.nii.gz", 2 * gzip.compress(CONTENT[: len(CONTENT) // 2])),
        ("padded.nii.gz", gzip.compress(CONTENT) + bytes(512)),
        ("misnamed.nii", gzip.compress(CONTENT)),
    ],
)
def test_content_comes_back_however_it_is_packed(name: str, stored: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(stored)
    assert _read(path) == CONTENT


def _flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at:][1:]


# without a time: bytes stand in the names of tests, which all workers must agree on
ZIPPED = gzip.compress(CONTENT, mtime=0)


@pytest.mark.parametrize(
    ("name", "stored", "words"),
    [
        ("empty.nii.gz", b"", "an empty one"),
        ("text.nii.gz", b"<html>not found</html>", "other bytes"),
        ("half.nii.gz", ZIPPED[: len(ZIPPED) // 2], "truncated"),
        ("no_end.nii.gz", ZIPPED[:-6], "truncated"),
        ("only_head.nii.gz", ZIPPED[:5], "truncated"),
        ("check_sum.nii.gz", _flipped(ZIPPED, len(ZIPPED) - 8), "damaged"),
        ("short.nii.gz", gzip.compress(CONTENT[:-1]), "truncated"),
        ("short.nii", CONTENT[:-1], "truncated"),
    ],
)
def test_damage_is_named(name: str, stored: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(stored)
    with pytest.raises(DataError, match=words) as caught:
        _read(path)
    assert caught.value.where == str(path)
    assert caught.value.todo


def test_no_memory_is_asked_for_what_a_file_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "small.nii.gz"
    path.write_bytes(ZIPPED)
    with reading(path) as stream, pytest.raises(DataError, match="too small"):
        fill(stream, 1 << 45, path)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.nii", "found none"), (tmp_path, "found a folder")):
        with pytest.raises(DataError, match=words), reading(path):
            pass


def test_what_exists_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    path.write_text("mine")
    with pytest.raises(DataError, match="exists"), writing(path, overwrite=False):
        pass
    assert path.read_text() == "mine"
    with writing(path, overwrite=True) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without room")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def fill_it() -> None:
        with writing(tmp_path / "x.nii", overwrite=False) as beside:
            beside.symlink_to("/dev/full")
            beside.write_bytes(CONTENT)

    with pytest.raises(DataError, match="room on the disk"):
        fill_it()
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    path.write_text("old")

    def stop_halfway() -> None:
        with writing(path, overwrite=True) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]
    assert path.read_text() == "old"


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with (
        pytest.raises(DataError, match="can be written"),
        writing(tmp_path / "out" / "x.nii", overwrite=False),
    ):
        pass
