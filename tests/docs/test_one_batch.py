"""`docs/one_batch.md` quotes the code: each function is in the file that is named, its lines in their order in it."""

import ast
from typing import Any

from pages import ROOT, fences

SOURCE = ROOT / "src/costate"


def lines_of(reference: str) -> list[str]:
    """training/module.py:Training.training_step -> its lines."""
    path, _, names = reference.partition(":")
    text = (SOURCE / path).read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for name in names.split("."):
        named = [inner for inner in ast.iter_child_nodes(node) if getattr(inner, "name", None) == name]
        assert named, f"{reference}: no {name}"
        node = named[0]
    return [line.strip() for line in text.splitlines()[node.lineno - 1 : node.end_lineno]]


def test_each_line_that_is_quoted_is_where_it_is_said_to_be():
    page = (ROOT / "docs/one_batch.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 80
    quoted = 0
    for block in fences(page, "text")[1:]:
        found: list[str] = []
        for line in block.splitlines():
            if ".py:" in line:
                found = lines_of(line)
            else:
                assert line in found, f"{line}: not there, or not behind the line that is quoted before it"
                found = found[found.index(line) + 1 :]
                quoted += 1
    assert quoted > 12
