"""report/: tables, figures, and a page that shows them."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from costate.reports import boundaries, curves, page, scaling, stages, style, table, timeline
from costate.reports.groups import Group, grouped
from costate.reports.page import Shown
from costate.reports.reading import Broken, find

TABLES = ("table.md", "table.csv", "table.tex")


def write(
    paths: Sequence[Path], out: Path, networks: bool = True, tell: Callable[[str], None] = lambda line: None
) -> Path:
    """Reads run and sweep folders and writes the report; one that is there is replaced.

    Args:
        networks: whether to rebuild the networks on planar data and draw what they do.
        tell: told of each figure when it is written.

    Raises:
        ValueError: there is no run, or the folder for the report holds something else.
    """
    _clear(out)
    runs, broken = find(paths)
    tell(f"{len(runs)} runs" + (f", {len(broken)} left out" if broken else ""))
    groups = grouped(runs)
    rows = table.build(groups) if groups else [[*table.AXES, *table.NUMBERS]]
    out.mkdir(parents=True, exist_ok=True)
    for name, text in zip(
        TABLES, (table.markdown(rows), table.comma_separated(groups), table.latex(rows)), strict=True
    ):
        (out / name).write_text(text + (_left_out(broken) if name == "table.md" else ""), encoding="utf-8")
    shown = []
    for name, caption, figure in _figures(groups, networks, broken):
        files = style.save(figure, out, name)
        shown.append(Shown(name, caption, files[1]))
        tell(f"{files[0].name}, {files[1].name}")
    title = ", ".join(path.resolve().name for path in paths)
    (out / "index.html").write_text(page.build(f"Costate: {title}", rows, shown, broken), encoding="utf-8")
    return out


def _figures(groups: Sequence[Group], networks: bool, broken: list[Broken]) -> Iterator[tuple[str, str, Figure]]:
    for draw in (curves.draw, stages.draw, boundaries.draw, scaling.draw, timeline.draw):
        yield from draw(groups)
    if networks and any(group.planar for group in groups):
        # Only here torch is imported.
        from costate.reports import looks

        refused: list[tuple[Path, str]] = []
        yield from looks.draw(groups, refused)
        broken += [Broken(folder, reason) for folder, reason in refused]


def _left_out(broken: Sequence[Broken]) -> str:
    return "".join(["\nLeft out:\n\n", *(f"- `{b.folder}`: {b.reason}\n" for b in broken)]) if broken else ""


def _clear(out: Path) -> None:
    """Makes room for the report.

    Raises:
        ValueError: the folder holds something that is no report.
    """
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "table.md").exists():
        raise ValueError(f"{out} holds something that is no report: choose another folder with --out.")
    shutil.rmtree(out)
