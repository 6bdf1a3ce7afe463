"""Small source files in the formats of the published ones: IDX (MNIST and its kin) and CIFAR's pickles."""

import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN, TEST = 120, 30
PER_CIFAR_BATCH = TRAIN // 5


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zeros, type 8 (byte), number of axes; lengths, most significant byte first; the bytes."""
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """A set like MNIST; returns what is in it, images with an axis for the channel."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    arrays = {}
    for part, prefix, rows in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        images = random.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = random.permutation(np.arange(rows) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
        arrays |= {f"{part}_x": images[:, None], f"{part}_y": labels}
    return arrays


def write_cifar(folder: Path, files: list[tuple[str, str, int]], label_key: str, classes: int) -> dict[str, np.ndarray]:
    """A set like CIFAR, a pickle a file; returns what is in it. Rows are red, green, blue, each row by row."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    parts: dict[str, list[np.ndarray]] = {"train_x": [], "train_y": [], "test_x": [], "test_y": []}
    for name, part, rows in files:
        data = random.integers(0, 256, (rows, 3072), dtype=np.uint8)
        labels = random.integers(0, classes, rows)
        (folder / name).write_bytes(pickle.dumps({"data": data, label_key: labels.tolist()}, protocol=2))
        parts[f"{part}_x"].append(data.reshape(rows, 3, 32, 32))
        parts[f"{part}_y"].append(labels.astype(np.uint8))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def write_cifar10(root: Path) -> dict[str, np.ndarray]:
    folder = root / "cifar-10-batches-py"
    files = [(f"data_batch_{i}", "train", PER_CIFAR_BATCH) for i in range(1, 6)] + [("test_batch", "test", TEST)]
    arrays = write_cifar(folder, files, "labels", 10)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}, protocol=2))
    return arrays


def write_cifar100(root: Path) -> dict[str, np.ndarray]:
    folder = root / "cifar-100-python"
    arrays = write_cifar(folder, [("train", "train", TRAIN), ("test", "test", TEST)], "fine_labels", 100)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}, protocol=2))
    return arrays


def write_gallery(root: Path, rows: int, seed: int = 0) -> list[tuple[np.ndarray, int]]:
    """Pictures of 6 × 6 in three class folders; returns them as bytes (3, 6, 6), with the numbers of their classes."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(rows):
        picture, label = random.integers(0, 256, (6, 6, 3), dtype=np.uint8), i % 3
        place = root / "abc"[label] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place)
        found.append((picture.transpose(2, 0, 1), label))
    return found


WRITERS = {
    "mnist": lambda root: write_idx(root / "MNIST" / "raw", seed=0),
    "fashion_mnist": lambda root: write_idx(root / "FashionMNIST" / "raw", seed=1),
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
}
