"""torchvision beside any torch: declared where its operators do not load, left alone where they do."""

import subprocess
import sys
import textwrap
from pathlib import Path

import costate

ROOT = Path(costate.__file__).parent


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
    code = """
    from costate import importing
    importing.declare_missing(importing.PathFinder.find_spec("torchvision"))
    print(len(loads), importing.declared)
    """
    assert run(WORKING_OPERATORS + code) == "1 []"


def test_operators_that_do_not_load_are_declared_and_torchvision_imports():
    code = """
    import costate
    import torchvision
    print(len(costate.importing.declared), [hasattr(torch.ops.torchvision, name) for name in ("nms", "qnms")])
    """
    assert run(BROKEN_OPERATORS + code) == "1 [True, True]"


def test_a_declaration_by_somebody_else_is_respected():
    code = """
    theirs = torch.library.Library("torchvision", "FRAGMENT")
    theirs.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from costate import importing
    importing.declare_missing(importing.PathFinder.find_spec("torchvision"))
    print(len(importing.declared), [hasattr(torch.ops.torchvision, name) for name in ("nms", "qnms")])
    """
    assert run(BROKEN_OPERATORS + code) == "1 [True, True]"


def test_without_torchvision_nothing_raises():
    assert run("import costate, importlib.util; print(importlib.util.find_spec('torchwisdom'))") == "None"
