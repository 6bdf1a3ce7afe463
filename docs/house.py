"""A picture of the house: its rooms are the packages of costate, and each imports only those its lines lead down to.

Made of the imports as they are when the docs are built, and shown where a page says `<!-- house -->`.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import fmean
from typing import Any

SOURCE = Path(__file__).parents[1] / "src" / "costate"
APART, DOWN, HEIGHT = 24, 74, 30
"""Pixels between rooms, from floor to floor, and of a room."""

Imports = dict[str, set[str]]


def rooms(source: Path = SOURCE) -> Imports:
    """What each package imports of the others when it is imported itself, and train.py."""
    names = {path.parent.name for path in source.glob("*/__init__.py")}
    found = {name: set().union(*map(_imported, (source / name).rglob("*.py"))) for name in names}
    found["train.py"] = _imported(source.parents[1] / "train.py")
    return joined({name: imports & names - {name} for name, imports in sorted(found.items())})


def joined(imports: Imports) -> Imports:
    """Rooms that import each other, however far round, are one."""
    reach = {name: set(own) for name, own in imports.items()}
    for via in imports:
        for own in reach.values():
            own |= reach[via] if via in own else set()
    one = {name: " ⇄ ".join(sorted({name} | {b for b in reach[name] if name in reach[b]})) for name in imports}
    return {
        room: {one[b] for a in imports if one[a] == room for b in imports[a]} - {room}
        for room in dict.fromkeys(one.values())
    }


def _imported(path: Path) -> set[str]:
    # What a function imports, or mypy alone, is not needed for the import.
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    names: set[str] = set()
    for node in ast.walk(ast.Module(nodes, [])) if path.name == "train.py" else nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "costate":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("costate."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("costate.")}
    return names


def floors(imports: Imports) -> list[list[str]]:
    """The rooms, from the ground up: each as low as what it imports lets it.

    Raises:
        graphlib.CycleError: rooms import each other.
    """
    sorter, found = TopologicalSorter(imports), []
    sorter.prepare()
    while sorter.is_active():
        found.append(sorted(sorter.get_ready()))
        sorter.done(*found[-1])
    return found


def lines(imports: Imports) -> list[tuple[str, str]]:
    """Imports that no chain of others says already."""

    def below(name: str) -> set[str]:
        return imports[name].union(*map(below, imports[name]))

    return [(a, b) for a, own in imports.items() for b in sorted(own) if not any(b in below(c) for c in own - {b})]


def picture(imports: Imports) -> str:
    """As SVG, in the colour of the page's text."""
    storeys, wide = floors(imports)[::-1], {name: 30 + 7 * len(name) for name in imports}
    lengths = [sum(wide[name] + APART for name in storey) for storey in storeys]
    places: dict[str, tuple[float, float]] = {}
    for i, storey in enumerate(storeys):
        x, y = (max(lengths) - lengths[i]) / 2, DOWN * i + HEIGHT
        # A room stands below those that it is imported by.
        above = {name: [places[a][0] for a in places if name in imports[a]] for name in storey}
        for name in sorted(storey, key=lambda name, above=above: fmean(above[name] or [0])):
            places[name] = x + (APART + wide[name]) / 2, y
            x += APART + wide[name]
    drawn = []
    for (x, y), (x2, y2) in ((places[a], places[b]) for a, b in lines(imports)):
        ends = f'x1="{x}" y1="{y + HEIGHT / 2}" x2="{x2}" y2="{y2 - HEIGHT / 2}"'
        drawn.append(f'<line {ends} stroke="currentColor" stroke-opacity="0.35"/>')
    for name, (x, y) in places.items():
        box = f'x="{x - wide[name] / 2}" y="{y - HEIGHT / 2}" width="{wide[name]}" height="{HEIGHT}" rx="4"'
        drawn.append(f'<rect {box} fill="var(--md-default-bg-color, white)" stroke="currentColor"/>')
        drawn.append(f'<text x="{x}" y="{y + 4}" text-anchor="middle" font-size="13" fill="currentColor">{name}</text>')
    width, height = max(lengths), DOWN * len(storeys)
    size = f'viewBox="0 0 {width} {height}" width="{width}" style="max-width: 100%" aria-label="Who imports whom"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(drawn)}</svg>'


def on_page_markdown(markdown: str, **others: Any) -> str:
    """Puts the picture where a page asks for it."""
    return markdown.replace("<!-- house -->", picture(rooms())) if "<!-- house -->" in markdown else markdown
