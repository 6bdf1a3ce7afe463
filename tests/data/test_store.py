"""A stored file is whole or absent, made by one process, and never wrong: a damaged one is noticed and made again."""

import multiprocessing
import os
import signal
import time

import h5py
import numpy as np
import pytest

from costate.data import store

ARRAYS = {
    "x": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4),
    "y": np.array([1, 0], dtype=np.uint8),
}
fork = multiprocessing.get_context("fork")


def same(arrays, expected=ARRAYS):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
    return True


def make():
    return {name: array.copy() for name, array in ARRAYS.items()}


def never():
    raise AssertionError("made again without need")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "set.h5"


@pytest.fixture
def stored(path):
    assert same(store.load(path, "source", make))
    return path


def test_what_is_stored_is_read_back_without_the_source(stored):
    assert same(store.load(stored, "source", never))
    assert same(store.load(stored, None, never))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_said_and_made_again(stored, share, caplog):
    whole = stored.read_bytes()
    stored.write_bytes(whole[: int(share * len(whole))])
    assert same(store.load(stored, "source", make))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{stored} is damaged or half-written: making it again from the source."
    ]
    assert same(store.load(stored, "source", never))


def test_no_flipped_byte_is_read_as_data(stored):
    whole = stored.read_bytes()
    noticed = 0
    for place in range(0, len(whole), 19):
        stored.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            assert same(store.read(stored, "source"))
        except store.UnusableError:
            noticed += 1
    assert noticed > 0


@pytest.mark.parametrize("name", ARRAYS)
def test_a_flipped_byte_in_the_arrays_is_noticed(stored, name):
    whole, needle = stored.read_bytes(), ARRAYS[name].tobytes()
    place = whole.index(needle)
    stored.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(store.UnusableError):
        store.read(stored, "source")


def test_other_arrays_under_a_valid_checksum_of_their_own_shape_are_noticed(stored):
    with h5py.File(stored, "r+") as file:
        flat = file["x"][()].ravel()
        del file["x"]
        file["x"] = flat
    with pytest.raises(store.UnusableError):
        store.read(stored, "source")


def test_a_changed_source_is_said_and_read_again(stored, caplog):
    other = {"x": ARRAYS["x"] + 1, "y": ARRAYS["y"]}
    assert same(store.load(stored, "other source", lambda: other), other)
    assert f"{stored} was made from other source files: making it again from the source." in caplog.messages
    assert same(store.load(stored, "other source", never), other)


def test_a_file_that_is_something_else_is_made_again(path):
    path.parent.mkdir()
    path.write_text("not HDF5")
    assert same(store.load(path, "source", make))


def test_a_source_that_fails_leaves_no_file(path):
    def fail():
        raise ValueError("no source")

    with pytest.raises(ValueError, match="no source"):
        store.load(path, "source", fail)
    assert not path.exists()
    assert same(store.load(path, "source", make))


def die_before_replacing(path):
    os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
    store.load(path, "source", make)


def test_a_killed_writer_leaves_nothing_that_counts(path):
    writer = fork.Process(target=die_before_replacing, args=(path,))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert not path.exists()
    assert path.with_suffix(".partial").exists()
    assert same(store.load(path, "source", make))
    assert not path.with_suffix(".partial").exists()


def load_and_count(path, start, count):
    def slowly():
        with count.get_lock():
            count.value += 1
        time.sleep(0.2)
        return make()

    start.wait()
    same(store.load(path, "source", slowly))


@pytest.mark.parametrize("before", ["absent", "damaged"])
def test_of_several_processes_one_makes_the_file(path, before):
    if before == "damaged":
        path.parent.mkdir()
        path.write_bytes(b"x")
    start, count = fork.Event(), fork.Value("i", 0)
    processes = [fork.Process(target=load_and_count, args=(path, start, count)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert count.value == 1


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(ValueError, match="choose another folder") as fault:
        store.load(tmp_path / "cache" / "set.h5", "source", make)
    assert str(fault.value).startswith(f"data.cache={tmp_path / 'cache'} cannot be written to (")
    assert "\n" not in str(fault.value)
