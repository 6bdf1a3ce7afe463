"""Notebooks run from top to bottom, define nothing, and are committed without what they showed."""

import ast
import os
import re
import sys
from pathlib import Path

import pytest

from running import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_docs_name_each_of_them():
    page = (ROOT / "docs/notebooks.md").read_text(encoding="utf-8")
    assert PATHS
    assert set(re.findall(r"`notebooks/(\w+)\.ipynb` \|", page)) == {path.stem for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs_and_defines_nothing(path):
    for cell in code(path):
        assert not cell.outputs
        assert cell.execution_count is None
        tree = ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith("%")))
        defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)]
        assert not defined, "what is worth a name belongs to costate"


@pytest.mark.thorough
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("COSTATE_FAST", "1")
    monkeypatch.setenv("COSTATE_NOTEBOOK_RUNS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}}).execute()
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures, "it shows nothing"
