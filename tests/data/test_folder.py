"""Pictures in class folders: what is in them is read exactly, once, by any number of processes."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from composing import config, refusal
from costate.data import pictures
from costate.data.batches import Rows, Shuffled, reading
from costate.data.own import Folder
from costate.data.store import Pages
from synthetic_files import write_gallery

PARTS = {"train": 12, "val": 3, "test": 6}


def made(root: Path | str | None, cache: Path, *overrides: str) -> Folder:
    words = ("data=folder", f"data.root={'null' if root is None else root}", f"data.cache={cache}", "data.size=6")
    return instantiate(config(*words, "data.batch_size=2", "data.augment=none", *overrides).data, _convert_="all")


def read(root: Path, cache: Path, *overrides: str) -> Folder:
    data = made(root, cache, *overrides)
    data.prepare_data()
    return data


def rows(*parts) -> list[tuple[bytes, int]]:
    return sorted((bytes(x.numpy()), int(y)) for part in parts for x, y in zip(part.x, part.y, strict=True))


def expected(arrays, *parts: str) -> list[tuple[bytes, int]]:
    return sorted((x.tobytes(), y) for part in parts for x, y in arrays[part])


@pytest.mark.parametrize("packed", [None, "parent", ".", "around"])
def test_parts_that_are_there_are_read_exactly_from_a_folder_and_from_a_zip(packed, tmp_path):
    root = tmp_path / "pictures"
    arrays = {name: write_gallery(root / name, n, seed=n) for name, n in PARTS.items()}
    (root / "train" / "b" / ".hidden.png").write_bytes(b"")
    (root / "train" / "notes.txt").write_text("no picture")
    if packed == "parent":
        root = tmp_path / "above"
        shutil.move(tmp_path / "pictures", root / "pictures")
    elif packed is not None:
        base = tmp_path if packed == "around" else root
        root = Path(
            shutil.make_archive(str(tmp_path / "packed"), "zip", base, "pictures" if packed == "around" else ".")
        )
    for _ in range(2):
        data = read(root, tmp_path / "cache")
        assert (data.shape, data.task.outputs, data.gallery.classes) == ((3, 6, 6), 3, ["a", "b", "c"])
        for part, name in zip(data.parts, PARTS, strict=True):
            assert rows(part) == expected(arrays, name)


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "Validation", "Testing"),
        ("training_set", "validation_set", "test_set"),
        ("train", "dev", "test"),
        ("train", "eval", "test"),
    ],
)
def test_parts_have_the_names_that_people_give_them(names, tmp_path):
    arrays = [write_gallery(tmp_path / "own" / name, n, seed=n) for name, n in zip(names, PARTS.values(), strict=True)]
    data = read(tmp_path / "own", tmp_path)
    for part, own in zip(data.parts, arrays, strict=True):
        assert rows(part) == expected({"own": own}, "own")


def test_pictures_of_no_part_are_said(tmp_path, caplog):
    for part, n in {**PARTS, "figures": 3}.items():
        write_gallery(tmp_path / "own" / part, n)
    shutil.copy(tmp_path / "own" / "val" / "a" / "0.png", tmp_path / "own" / "test" / "alone.png")
    read(tmp_path / "own", tmp_path)
    assert "4 of 25 pictures are in no class folder of a part: figures/a/0.png, " in caplog.text
    assert "test/alone.png; they are left out." in caplog.text


def test_one_folder_is_divided_by_the_seed(tmp_path):
    arrays = {"all": write_gallery(tmp_path / "own", 40)}
    parts = [read(tmp_path / "own", tmp_path, f"data.seed={seed}").parts for seed in (0, 0, 1)]
    assert [len(part.y) for part in parts[0]] == [28, 4, 8]
    assert rows(*parts[0]) == expected(arrays, "all")
    assert rows(parts[0].test) == rows(parts[1].test) != rows(parts[2].test)


def test_pictures_are_decoded_once(tmp_path, monkeypatch):
    write_gallery(tmp_path / "own", 9)
    before = read(tmp_path / "own", tmp_path).parts
    monkeypatch.setattr(pictures, "decode", None)
    after = read(tmp_path / "own", tmp_path).parts
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(before, after, strict=True))


def test_a_picture_that_is_exchanged_is_noticed(tmp_path, caplog):
    write_gallery(tmp_path / "own", 9)
    read(tmp_path / "own", tmp_path)
    arrays = {"all": write_gallery(tmp_path / "own", 9, seed=1)}
    assert rows(*read(tmp_path / "own", tmp_path).parts) == expected(arrays, "all")
    assert "was made from other source files" in caplog.text


def test_several_processes_read_what_one_reads(tmp_path, monkeypatch):
    write_gallery(tmp_path / "own", 25)
    gallery = pictures.Gallery(tmp_path / "own", "root")
    alone = gallery.arrays(6, True, skip=False)
    monkeypatch.setattr(pictures, "FEW", 0)
    monkeypatch.setattr(pictures, "PIECE", 500)
    state = torch.get_rng_state()
    together = gallery.arrays(6, True, skip=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(together[name], array) for name, array in alone.items())


@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_files_that_are_no_pictures_are_listed(unreadable, tmp_path, caplog):
    arrays = {"all": write_gallery(tmp_path / "own", 12)}
    (tmp_path / "own" / "a" / "zz.png").write_text("no picture")
    whole = (tmp_path / "own" / "b" / "1.png").read_bytes()
    (tmp_path / "own" / "b" / "zz.jpg").write_bytes(whole[: len(whole) // 2])
    told = f"data.root={tmp_path / 'own'}: 2 of 14 pictures cannot be read: a/zz.png (no picture), b/zz.jpg ("
    if unreadable == "refuse":
        sentence = refusal(lambda: read(tmp_path / "own", tmp_path))
        assert sentence.startswith(told)
        assert sentence.endswith("; remove them, or leave them out by data.unreadable=skip.")
        assert "\n" not in sentence
        assert not list(tmp_path.glob("*.h5"))
    else:
        data = read(tmp_path / "own", tmp_path, "data.unreadable=skip")
        assert rows(*data.parts) == expected(arrays, "all")
        assert told in caplog.text


@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_links_to_nothing_are_listed(unreadable, tmp_path, caplog):
    arrays = {"all": write_gallery(tmp_path / "own", 12)}
    (tmp_path / "own" / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    told = f"data.root={tmp_path / 'own'}: 1 of 13 pictures cannot be read: a/gone.png ("
    if unreadable == "refuse":
        assert refusal(lambda: read(tmp_path / "own", tmp_path)).startswith(told)
    else:
        data = read(tmp_path / "own", tmp_path, "data.unreadable=skip")
        assert rows(*data.parts) == expected(arrays, "all")
        assert told in caplog.text
        shutil.copy(tmp_path / "own" / "b" / "1.png", tmp_path / "nowhere.png")
        assert sum(len(part.y) for part in read(tmp_path / "own", tmp_path, "data.unreadable=skip").parts) == 13


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    """Two links to one folder are two: only what one is in already leads nowhere."""
    write_gallery(tmp_path / "pool", 12)
    for part in ("train", "test"):
        (tmp_path / "own" / part).mkdir(parents=True)
        for name in "abc":
            (tmp_path / "own" / part / name).symlink_to(tmp_path / "pool" / name)
    own = pictures.Gallery(tmp_path / "own", "root")
    assert {part: len(files) for part, files in own.parts.items()} == {"train": 12, "test": 12}
    (tmp_path / "pool" / "a" / "up").symlink_to("..")
    assert len(pictures.Gallery(tmp_path / "pool", "root").files) == 12


def test_pictures_become_squares_of_the_size_with_the_channels_that_are_asked_for(tmp_path):
    """The middle of a wide one, made smaller; upright, as the camera says; grey where it is asked for."""
    wide = np.zeros((24, 72, 3), dtype=np.uint8)
    wide[:, 18:54] = [200, 100, 50]  # the filter reads a little beyond the square
    flat = tmp_path / "wide.png"
    Image.fromarray(wide).save(flat)
    assert (pictures.decode(flat.read_bytes(), 6, "RGB") == np.array([200, 100, 50])[:, None, None]).all()
    assert pictures.decode(flat.read_bytes(), 6, "L").shape == (1, 6, 6)
    upright = np.zeros((6, 6, 3), dtype=np.uint8)
    upright[0] = 255
    turned, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 8  # the camera was turned by a quarter
    Image.fromarray(np.rot90(upright, -1).copy()).save(turned, exif=exif)
    assert np.array_equal(pictures.decode(turned.read_bytes(), 6, "RGB"), upright.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["png", "tif", "pgm", "big endian"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_sixteen_bits_become_the_upper_eight(kind, mode, tmp_path):
    """PIL would make all that is above 255 white."""
    shades, path = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1800, tmp_path / "deep"
    if kind == "pgm":
        path.write_bytes(b"P5\n6 6\n65535\n" + shades.astype(">u2").tobytes())
    else:
        big = kind == "big endian"
        Image.fromarray(shades.astype(">u2") if big else shades).save(path, "PNG" if kind == "png" else "TIFF")
    assert (pictures.decode(path.read_bytes(), 6, mode) == shades >> 8).all()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_without_a_white_are_no_picture(kind, tmp_path):
    write_gallery(tmp_path / "own", 12)
    Image.fromarray(np.ones((6, 6), kind)).save(tmp_path / "own" / "a" / "zz.tif")
    told = refusal(lambda: read(tmp_path / "own", tmp_path))
    assert "1 of 13 pictures cannot be read: a/zz.tif (32 bits a pixel, of which none says what is white" in told


def test_what_another_version_decoded_is_decoded_anew(tmp_path, monkeypatch):
    arrays = {"all": write_gallery(tmp_path / "own", 9)}
    with monkeypatch.context() as before:
        before.setattr(pictures, "DECODER", "1")
        before.setattr(pictures, "decode", lambda content, size, mode: np.zeros((3, 6, 6), np.uint8))
        read(tmp_path / "own", tmp_path)
    assert rows(*read(tmp_path / "own", tmp_path).parts) == expected(arrays, "all")


def test_what_holds_no_classes_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    write_gallery(tmp_path / "strange" / "train", 6)
    write_gallery(tmp_path / "strange" / "test" / "deep", 6)
    shutil.copytree(tmp_path / "strange" / "train" / "a", tmp_path / "alone" / "a")
    write_gallery(tmp_path / "high" / "x" / "y" / "train", 6)
    write_gallery(tmp_path / "high" / "x" / "y" / "test", 6)
    cases = {
        None: "data=folder needs data.root, a folder or a .zip that holds the class folders.",
        tmp_path / "nowhere": f"data.root={tmp_path / 'nowhere'} is neither a folder nor a .zip",
        tmp_path / "empty": f"data.root={tmp_path / 'empty'} holds no pictures in class folders",
        tmp_path / "strange": f"data.root={tmp_path / 'strange'}: test has classes that train has not: deep.",
        tmp_path
        / "alone": f"data.root={tmp_path / 'alone'} holds one class alone, a: name the folder of two classes or more.",
        tmp_path / "high": f"data.root={tmp_path / 'high'} holds one class alone, x: name the folder of two classes or "
        f"more, such as {tmp_path / 'high' / 'x' / 'y'}.",
    }
    for root, sentence in cases.items():
        told = refusal(lambda root=root: made(root, tmp_path))
        assert told.startswith(sentence)
        assert "\n" not in told


def held() -> int:
    """Bytes of this process that are no file's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@pytest.mark.parametrize("divided", [False, True])
def test_what_memory_does_not_hold_is_read_from_the_file_with_the_same_batches(divided, tmp_path):
    """Shuffled, changed, standardised and resumed as from memory."""
    for part in ("train", "test") if divided else ("",):
        write_gallery(tmp_path / "own" / part, 60)
    words = ("data.augment=flip_crop", "data.batch_size=8")
    plain, paged = (read(tmp_path / "own", tmp_path / m, f"data.memory={m}", *words) for m in ("0.5", "0"))
    assert isinstance(plain.parts.train.x, torch.Tensor)
    assert isinstance(paged.parts.train.x, Pages)
    for again in (paged, read(tmp_path / "own", tmp_path / "0", "data.memory=0", *words)):
        for name in ("train", "val", "test"):
            loaders = [getattr(data, f"{name}_dataloader")() for data in (plain, again)]
            for (x, y), (a, b) in zip(*loaders, strict=True):
                assert torch.equal(x, a)
                assert torch.equal(y, b)
    first, second = paged.train_dataloader(), paged.train_dataloader()
    batches, passing = list(second), iter(first)
    next(passing)
    assert first.state_dict()["batch"] == 1, "what is read ahead is not handed out"
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(x, a) for (x, _), (a, _) in zip(second, batches[1:], strict=True))


def test_memory_stays_flat_where_samples_stay_in_the_file(tmp_path):
    path, rows = tmp_path / "rows.h5", np.random.default_rng(0).integers(0, 256, (4000, 3, 64, 64), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        file["train_x"] = rows
    size = rows.nbytes
    del rows
    x = Pages(path, "train_x")
    loader = reading(Rows(x, torch.zeros(4000).long()), Shuffled(4000, 100, 0), lambda x: x)
    grown = [held()]
    for _ in range(6):
        for _batch in loader:
            pass
        grown.append(held())
    assert grown[1] - grown[0] < size / 2, "batches and a thread, not the rows"
    assert grown[6] - grown[1] < size / 2, "nor is anything kept of an epoch; what malloc keeps wavers by some MB"
