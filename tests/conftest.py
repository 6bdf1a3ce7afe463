"""Checks every annotated type and shape while the tests run, and keeps each process of the tests on one thread."""

import os
import re
from pathlib import Path

import typechecker

# Processes that a test starts inherit this; on a busy machine two threads for small operations are many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Checks come before the body of a function, so a test of a ValueError passes values of the right type, as the settings'
# schema does.
typechecker.install("costate")

import pytest  # noqa: E402
import torch  # noqa: E402

import costate  # noqa: E402, F401  (tests import lightning, which imports torchvision)

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--contract", metavar="NAME", help="only what concerns the files of conf/ that are called so")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "members: goes through all members of an axis by itself")
    name = config.getoption("--contract")
    if name is not None:
        if not list(config.rootpath.glob(f"conf/**/{name}.yaml")):
            raise pytest.UsageError(f"no file of conf/ is called {name}.yaml")
        os.environ["CONTRACT"] = name


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of --contract: a file is not even read in that does not go through the members of an axis of this name."""
    name = config.getoption("--contract")
    if name is None or collection_path.suffix != ".py":
        return None
    conf = config.rootpath / "conf"
    axes = {path.parent.relative_to(conf).as_posix() for path in conf.glob(f"**/{name}.yaml")}
    text, axis = collection_path.read_text(encoding="utf-8"), "|".join(map(re.escape, axes))
    by_itself = re.search(rf'options\("({axis})"|options\(axis\)|mark\.members|"conf" / "({axis})"', text)
    # What is called in capitals there are networks.
    of_networks = re.search(r"^from small import .*[A-Z]{2}", text, re.MULTILINE) if "arch" in axis else None
    return None if by_itself or of_networks else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test concerns a file of conf/ if it is parametrised by its name, or finds the members of an axis by itself."""
    name = config.getoption("--contract")
    if name is not None:
        word = re.compile(rf"\[.*(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])")
        concerned = [item for item in items if word.search(item.nodeid) or item.get_closest_marker("members")]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(concerned)])
        items[:] = concerned
    # Files whose tests start processes, or take long, come first: begun last, one of them would keep the others waiting
    items.sort(key=lambda item: item.path.parent.name not in ("cli", "execution", "tests", "benchmarks"))
