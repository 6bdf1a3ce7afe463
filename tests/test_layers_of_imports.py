"""Data flows one way, conf -> train.py -> training -> execution -> stage -> interfaces; leaves import no neighbour."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "costate"
VOCABULARY = {"core", "config"}
ALLOWED = {
    "config": set(),
    "pvd": {"config"},
    "core": {"config", "pvd"},
    "architectures": VOCABULARY,
    "data": VOCABULARY,
    "methods": VOCABULARY | {"architectures", "pvd"},
    "library": {"core"},
    "execution": VOCABULARY | {"architectures", "methods", "pvd"},
    "runs": {"config", "core", "architectures", "execution"},
}


def imported(path: Path) -> set[str]:
    """The parts of costate that a file imports, by the first word behind `costate.`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parents = node.module == "costate"
            full = [f"costate.{alias.name}" for alias in node.names] if parents else [node.module]
        elif isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        else:
            continue
        names |= {name.split(".")[1] for name in full if name.startswith("costate.")}
    return names


def files(part: str) -> list[Path]:
    single = SOURCE / f"{part}.py"
    found = [single] if single.exists() else sorted((SOURCE / part).rglob("*.py"))
    assert found, f"nothing is called {part}"
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_lies_below_it(part):
    for path in files(part):
        beyond = imported(path) - ALLOWED[part] - {part}
        assert not beyond, f"{path.relative_to(SOURCE)} imports {sorted(beyond)}"


def test_only_reports_draw():
    for path in SOURCE.rglob("*.py"):
        if re.search(r"^\s*(import|from) matplotlib", path.read_text(), re.MULTILINE):
            assert path.relative_to(SOURCE).parts[0] in {"reports", "benchmarks"}, path
