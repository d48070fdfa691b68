"""What is kept, what is computed again, and what is removed."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from flax_punkvae.page import cache
from flax_punkvae.page.cache import Cache


def failing() -> np.ndarray:
    raise AssertionError("computed again")


def test_a_result_is_computed_once_for_the_same_facts(tmp_path: Path):
    made = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Cache(tmp_path).array("a", ["x"], lambda: made), made)
    np.testing.assert_array_equal(Cache(tmp_path).array("a", ["x"], failing), made)
    assert Cache(tmp_path).table("t", ["x"], lambda: {"é": [1.5, None]}) == {"é": [1.5, None]}
    assert Cache(tmp_path).table("t", ["x"], failing) == {"é": [1.5, None]}  # pyright: ignore[reportArgumentType]
    for what, facts in (("b", ["x"]), ("a", ["y"]), ("a", ["x", ""])):
        with pytest.raises(AssertionError, match="computed again"):
            Cache(tmp_path).array(what, facts, failing)
    # No temporary file is left.
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damaged", [b"", b"nothing", b"\x93NUMPY\x01\x00v\x00{'descr'", b"\xff\xfe"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damaged: bytes):
    kept = Cache(tmp_path)
    kept.array("a", [], lambda: np.ones(3))
    kept.table("t", [], lambda: {"x": 1})
    for file in tmp_path.iterdir():
        file.write_bytes(damaged)
    assert kept.array("a", [], lambda: np.zeros(2)).tolist() == [0, 0]
    assert kept.table("t", [], lambda: {"x": 2}) == {"x": 2}
    assert kept.array("a", [], failing).tolist() == [0, 0]


def test_the_oldest_files_are_removed(tmp_path: Path):
    for age in range(40):
        file = tmp_path / f"a-{age:02d}.npy"
        file.write_bytes(b"")
        os.utime(file, (1000 - age, 1000 - age))
    # A folder is not ours to remove.
    (tmp_path / "folder").mkdir()
    os.utime(tmp_path / "folder", (1, 1))
    Cache(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"a-{age:02d}.npy" for age in range(30)), "folder"]


def test_a_file_that_another_server_removes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "there").write_bytes(b"")
    listed = [tmp_path / "gone", *tmp_path.iterdir()]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    monkeypatch.setattr(cache, "_MOST_FILES", 1)
    Cache(tmp_path)
    assert (tmp_path / "there").exists()


def test_what_cannot_be_kept_is_computed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    assert Cache(tmp_path).array("a", [], lambda: np.ones(2)).tolist() == [1, 1]
    assert Cache(tmp_path).table("t", [], lambda: {"x": 1}) == {"x": 1}
    assert list(tmp_path.iterdir()) == []
    # Nor without the directory, which somebody removed.
    kept = Cache(tmp_path)
    tmp_path.rmdir()
    assert kept.table("t", [], lambda: {"x": 2}) == {"x": 2}


def test_without_a_directory_nothing_is_kept():
    assert Cache(None).array("a", [], lambda: np.ones(2)).tolist() == [1, 1]
    assert Cache(None).table("a", [], lambda: {"x": 1}) == {"x": 1}
