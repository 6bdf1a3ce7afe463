"""Image sets made by the suite itself, in place of the published ones."""

import pytest
from torchvision import datasets

from synthetic_files import TRAIN, WRITERS, write_gallery


@pytest.fixture
def own_cifar(monkeypatch):
    """torchvision knows the checksums of the published CIFAR files: let it take ours, which it cannot know."""
    for reader in (datasets.CIFAR10, datasets.CIFAR100):
        monkeypatch.setattr(reader, "train_list", [[name, None] for name, _ in reader.train_list])
        monkeypatch.setattr(reader, "test_list", [[name, None] for name, _ in reader.test_list])
        monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": None})


@pytest.fixture
def image_files(tmp_path, own_cifar):
    """A root folder with a small set of each kind, and the arrays that are in it, by the set's name."""
    root = tmp_path / "source"
    write_gallery(root / "pictures", TRAIN)
    return root, {name: write(root) for name, write in WRITERS.items()}
