"""Image sets are read back exactly from files that the suite makes; what is missing or corrupt is said."""

import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision import datasets

from costate.data import images
from costate.data.images import Digits, Source
from synthetic_files import TEST, TRAIN, WRITERS, idx, write_cifar10, write_gallery, write_idx

KINDS = {
    "mnist": images.Mnist,
    "fashion_mnist": images.FashionMnist,
    "cifar10": images.Cifar10,
    "cifar100": images.Cifar100,
}
VALIDATION = 20


def made(name, root, cache, **changes):
    settings = {
        "download": False,
        "train": None,
        "validation": VALIDATION,
        "batch_size": 10,
        "augment": "none",
        "seed": 0,
        "shuffle_seed": 0,
    }
    return KINDS[name](root=str(root), cache=str(cache), **{**settings, **changes})


def read(data):
    data.prepare_data()
    data.setup("fit")
    return data


def rows(*parts):
    """Image and label of each row, as bytes, sorted."""
    return sorted((bytes(x.numpy()), int(y)) for part in parts for x, y in zip(part.x, part.y, strict=True))


def expected(arrays, part):
    return sorted((x.tobytes(), int(y)) for x, y in zip(arrays[f"{part}_x"], arrays[f"{part}_y"], strict=True))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("again", [False, True], ids=["converted", "cached"])
def test_what_the_files_hold_is_read_exactly(name, again, image_files, tmp_path):
    root, sets = image_files
    for _ in range(1 + again):
        data = read(made(name, root, tmp_path))
    assert [len(part.y) for part in data.parts] == [TRAIN - VALIDATION, VALIDATION, TEST]
    assert rows(data.parts.train, data.parts.validation) == expected(sets[name], "train")
    assert torch.equal(data.parts.test.x, torch.from_numpy(sets[name]["test_x"]))
    assert torch.equal(data.parts.test.y, torch.from_numpy(sets[name]["test_y"]).long())
    assert data.parts.train.x.dtype == torch.uint8


def test_the_split_is_fixed_by_the_seed_alone(image_files, tmp_path):
    root, _ = image_files
    held = rows(read(made("mnist", root, tmp_path)).parts.validation)
    assert rows(read(made("mnist", root, tmp_path, shuffle_seed=4, train=30)).parts.validation) == held
    assert rows(read(made("mnist", root, tmp_path, seed=1)).parts.validation) != held


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_all_parts_are_standardised_with_the_training_rows_alone(name, image_files, tmp_path):
    root, _ = image_files
    data = read(made(name, root, tmp_path))
    train = data.parts.train.x.numpy().astype(np.float64)
    mean, deviation = train.mean((0, 2, 3), keepdims=True), train.std((0, 2, 3), keepdims=True)
    for part, loader in ((data.parts.validation, data.val_dataloader()), (data.parts.test, data.test_dataloader())):
        x = torch.cat([x for x, _ in loader])
        np.testing.assert_allclose(x.numpy(), (part.x.numpy() - mean) / deviation, atol=1e-5)


def test_fewer_training_rows_can_be_asked_for(image_files, tmp_path):
    root, _ = image_files
    assert len(read(made("mnist", root, tmp_path, train=30)).parts.train.y) == 30
    with pytest.raises(ValueError, match="ask for 121 rows and there are 120 to divide"):
        read(made("mnist", root, tmp_path, validation=TRAIN))


def test_the_converted_file_is_enough_and_a_root_that_is_not_there_is_told(image_files, tmp_path, caplog):
    root, _ = image_files
    before = rows(*read(made("mnist", root, tmp_path)).parts)
    assert "is not there" not in caplog.text
    assert rows(*read(made("mnist", tmp_path / "nowhere", tmp_path)).parts) == before
    assert f"data.root={tmp_path / 'nowhere'} is not there: the pictures are those of {tmp_path}" in caplog.text


def test_other_source_files_are_noticed(image_files, tmp_path, caplog):
    root, _ = image_files
    read(made("mnist", root, tmp_path))
    other = write_idx(root / "MNIST" / "raw", seed=5)
    os.utime(root / "MNIST" / "raw" / "train-images-idx3-ubyte", ns=(1, 1))  # sizes are as before
    data = read(made("mnist", root, tmp_path))
    assert rows(data.parts.train, data.parts.validation) == expected(other, "train")
    assert "was made from other source files" in caplog.text


def test_a_damaged_converted_file_is_made_again(image_files, tmp_path, caplog):
    root, sets = image_files
    path = read(made("mnist", root, tmp_path)).path
    path.write_bytes(path.read_bytes()[:5000])
    data = read(made("mnist", root, tmp_path))
    assert rows(data.parts.train, data.parts.validation) == expected(sets["mnist"], "train")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_the_source_folder_is_only_read(image_files, tmp_path):
    root, _ = image_files

    def facts():
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}

    before = facts()
    for name in KINDS:
        read(made(name, root, tmp_path, download=True))
    assert facts() == before


def test_a_zip_of_pictures_stands_in_for_files_that_are_missing(tmp_path):
    arrays = {part: write_gallery(tmp_path / "own" / part, 12 if part == "train" else 6) for part in ("train", "test")}
    shutil.make_archive(str(tmp_path / "cifar10"), "zip", tmp_path / "own")
    data = made("cifar10", tmp_path, tmp_path / "cache", validation=2, batch_size=5)
    for _ in range(2):
        read(data)
        assert [len(part.y) for part in data.parts] == [10, 2, 6]
        assert data.parts.train.x.shape[1:] == (3, 32, 32)
        assert sorted(data.parts.test.y.tolist()) == sorted(label for _, label in arrays["test"])


# Missing files


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*request, **options):
        raise urllib.error.URLError("refused")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("download", "fate"), [(False, "data.download=false"), (True, "could not be downloaded")])
def test_missing_files_are_named_with_their_place_and_the_way_out(name, download, fate, no_network, tmp_path, capfd):
    data = made(name, tmp_path / "root", tmp_path / "cache", download=download)
    with pytest.raises(ValueError, match=r"data\.root") as fault:
        data.prepare_data()
    files, folder = data.source.files, data.source.folder
    assert str(fault.value) == (
        f"data={name} lacks {', '.join(files)} ({fate}): put the files into {tmp_path / 'root' / folder}, "
        f"or set data.root to the folder that has {folder} in it, or use data=digits, which needs no files."
    )
    assert capfd.readouterr() == ("", "")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_only_what_is_missing_is_named(image_files, tmp_path):
    root, _ = image_files
    (root / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(ValueError, match="data=cifar10 lacks data_batch_3 "):
        made("cifar10", root, tmp_path).prepare_data()


def broken_off(root, download):
    write_idx(Path(root, "MNIST", "raw"))
    raise RuntimeError("connection lost")


def complete(root, train=True, download=False):
    if download:
        write_idx(Path(root, "MNIST", "raw"))
    return datasets.MNIST(root, train=train)


def test_a_download_that_breaks_off_leaves_nothing(tmp_path):
    source = Source("mnist", broken_off, "MNIST/raw", images.IDX, (1, 28, 28), 10)
    with pytest.raises(ValueError, match="could not be downloaded"):
        source.read(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_succeeds_is_kept_and_leaves_files_that_were_there(tmp_path):
    own = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    arrays = write_idx(own.parent)
    for file in images.IDX[:3]:
        (own.parent / file).unlink()
    own.touch()
    before = own.stat().st_mtime_ns
    source = Source("mnist", complete, "MNIST/raw", images.IDX, (1, 28, 28), 10)
    result = source.read(tmp_path, download=True)
    assert all(np.array_equal(result[name], array) for name, array in arrays.items())
    assert own.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == [tmp_path / "MNIST"]


# Corrupt files

IMAGES = np.zeros((TRAIN, 28, 28), dtype=np.uint8)
LABELS = np.zeros(TRAIN, dtype=np.uint8)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train-images-idx3-ubyte", b""),
        ("train-images-idx3-ubyte", idx(IMAGES)[:-1]),
        ("train-images-idx3-ubyte", idx(IMAGES) + b"0"),
        ("train-images-idx3-ubyte", b"\x1f\x8b" + idx(IMAGES)),
        ("train-images-idx3-ubyte", idx(IMAGES[:-1])),
        ("train-images-idx3-ubyte", idx(IMAGES[:, :14])),
        ("train-images-idx3-ubyte", idx(IMAGES.reshape(-1, 14, 56))),
        ("train-labels-idx1-ubyte", idx(LABELS[:-1])),
        ("train-labels-idx1-ubyte", idx(LABELS + 10)),
        ("t10k-labels-idx1-ubyte", b"<html>not found</html>"),
    ],
    ids=["empty", "short", "long", "shifted", "fewer", "half", "turned", "few labels", "no such class", "a web page"],
)
def test_corrupt_idx_files_are_said(file, content, image_files, tmp_path):
    folder = image_files[0] / "MNIST" / "raw"
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match="are corrupt") as fault:
        made("mnist", image_files[0], tmp_path).prepare_data()
    start, end = str(fault.value).split(" (", 1)
    assert start == f"The files of data=mnist in {folder} are corrupt"
    assert end.endswith(" while reading): replace them, or use data=digits, which needs no files.")
    assert not (tmp_path / "mnist.h5").exists()


def test_cifar_files_other_than_the_published_ones_are_said(tmp_path):
    write_cifar10(tmp_path)  # their checksums are not those that torchvision knows
    with pytest.raises(ValueError, match=r"The files of data=cifar10 in .* are corrupt"):
        made("cifar10", tmp_path, tmp_path).prepare_data()


# Digits


def test_digits_are_scikit_learns():
    data = read(Digits(train=None, validation=180, test=360, batch_size=32, seed=0, shuffle_seed=0))
    assert [len(part.y) for part in data.parts] == [1257, 180, 360]
    images, labels = load_digits(return_X_y=True)
    published = [(x.astype(np.uint8).tobytes(), int(y)) for x, y in zip(images, labels, strict=True)]
    assert rows(*data.parts) == sorted(published)


def test_every_kind_has_files_of_its_own():
    assert KINDS.keys() == WRITERS.keys()


# Extra, where the published MNIST is at hand

PUBLISHED = Path(os.environ.get("COSTATE_DATA", "data"))

if (PUBLISHED / "MNIST/raw/train-images-idx3-ubyte").exists():

    def test_the_published_mnist(tmp_path):
        data = read(made("mnist", PUBLISHED, tmp_path, validation=5000, batch_size=128))
        assert [len(part.y) for part in data.parts] == [55000, 5000, 10000]
        assert torch.bincount(data.parts.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        assert torch.equal(data.parts.test.x[:, 0], datasets.MNIST(PUBLISHED, train=False).data)
