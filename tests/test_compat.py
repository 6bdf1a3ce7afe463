"""torchvision beside any torch: declared where its operators do not load, left alone where they do."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import costate

ROOT = Path(costate.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
THIRD_PARTIES = {"lightning", "torchmetrics", "torchvision"}


def imports(path: Path) -> list[str]:
    """The names of the modules that a file imports as it loads, in order; functions import later."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def needs_torchvision(path: Path) -> bool:
    return any(name.split(".")[0] in THIRD_PARTIES for name in imports(path))


def compat_comes_first(path: Path) -> bool:
    """Whether a file imports costate.compat before any third party that needs torchvision."""
    for name in imports(path):
        if name == "costate.compat":
            return True
        if name.split(".")[0] in THIRD_PARTIES:
            return False
    return False


def run(code: str) -> str:
    """Run `code` in a fresh interpreter, since what is under test happens once, at import."""
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# Stands in for compiled operators that load: declares what the real library does, and counts how often it is asked to.
WORKING_OPERATORS = """
    import torch
    real = torch.library.Library("torchvision", "DEF")
    loads = []

    def load_library(path):
        loads.append(path)
        real.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        real.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

    torch.ops.load_library = load_library
"""
BROKEN_OPERATORS = """
    import torch

    def load_library(path):
        raise OSError("undefined symbol: a library that this torch does not have")

    torch.ops.load_library = load_library
"""


@pytest.mark.parametrize("path", [path for path in SOURCES if needs_torchvision(path)], ids=lambda path: path.stem)
def test_whatever_needs_torchvision_imports_compat_first(path):
    packages = [parent / "__init__.py" for parent in path.parents if ROOT in parent.parents]
    assert any(compat_comes_first(source) for source in [path, *packages])


def test_the_installation_lets_any_program_import_them():
    """By a costate.pth beside the packages, which a Python reads as it starts; torch is not imported for it."""
    site = ROOT.parents[1] / "src"
    code = f"""
    import site, sys
    site.addpackage({str(site)!r}, "costate.pth", set())
    assert "torch" not in sys.modules
    import importlib.util
    assert importlib.util.find_spec("torchvision") and "torch" not in sys.modules
    import lightning, torchmetrics, torchvision.datasets, torchvision.transforms
    """
    run(code)


def test_the_installation_leaves_that_file():
    project = (ROOT.parents[1] / "pyproject.toml").read_text()
    assert 'force-include = { "src/costate.pth" = "costate.pth" }' in project


def test_the_package_itself_stays_light():
    heavy = "{'torch', 'lightning', 'torchvision', 'numpy', 'hydra'}"
    assert run(f"import sys, costate; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_working_operators_are_not_declared_again():
    assert (
        run(WORKING_OPERATORS + "\n    from costate import compat\n    print(len(loads), compat.declared)") == "1 None"
    )


def test_operators_that_do_not_load_are_declared_and_torchvision_imports():
    code = """
    from costate import compat
    import torchvision
    print(compat.declared is not None, hasattr(torch.ops.torchvision, "nms"), hasattr(torch.ops.torchvision, "qnms"))
    """
    assert run(BROKEN_OPERATORS + code) == "True True True"


def test_a_declaration_by_somebody_else_is_respected():
    code = """
    theirs = torch.library.Library("torchvision", "FRAGMENT")
    theirs.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from costate import compat
    import torchvision
    print(compat.declared is not None)
    """
    assert run(BROKEN_OPERATORS + code) == "True"


def test_without_torchvision_nothing_raises():
    code = """
    import importlib.util
    importlib.util.find_spec = lambda name: None
    from costate import compat
    print("imported")
    """
    assert run(code) == "imported"
