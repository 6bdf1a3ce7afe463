"""report/: tables, figures, and a page that shows them, which needs no network and no other file."""

import base64
import shutil
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from costate.reports import curves, scaling, style, table, timeline
from costate.reports.groups import Broken, Group, find, grouped
from costate.reports.table import Table, texts

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; } .wide { overflow-x: auto; }
th, td { padding: 3px 10px; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid #333; }
figure { margin: 2em 0; } figure img { max-width: 100%; zoom: 1.5; } figcaption { color: #444; font-size: 13px; }
code { background: #f3f3f3; padding: 0 3px; }
"""


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
    if any(place.is_file() for place in (out, *out.parents)):
        raise ValueError(f"--out {out}: a file is there: choose a folder, as --out report.")
    if out.exists() and any(out.iterdir()) and not (out / "table.md").exists():
        raise ValueError(f"{out} holds something that is no report: choose another folder with --out.")
    runs, broken = find(paths)
    tell(f"{len(runs)} runs" + (f", {len(broken)} left out" if broken else ""))
    groups = grouped(runs)
    rows = table.build(groups) if groups else [[*table.AXES, *table.NUMBERS]]
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    left_out = "".join(["\nLeft out:\n\n", *(f"- `{b.folder}`: {b.reason}\n" for b in broken)]) if broken else ""
    (out / "table.md").write_text(table.markdown(rows) + left_out, encoding="utf-8")
    (out / "table.csv").write_text(table.all_digits(groups), encoding="utf-8")
    (out / "table.tex").write_text(table.latex(rows), encoding="utf-8")
    shown = []
    for name, caption, figure in _figures(groups, networks, broken):
        png, svg = style.save(figure, out, name)
        shown.append(_shown(name, caption, svg))
        tell(f"{png.name}, {svg.name}")
    title = f"Costate: {', '.join(path.resolve().name for path in paths)}"
    (out / "index.html").write_text(_page(title, rows, shown, broken), encoding="utf-8")
    return out


def _figures(groups: Sequence[Group], networks: bool, broken: list[Broken]) -> curves.Figures:
    for draw in (curves.draw, scaling.stages, curves.gradients, scaling.draw, timeline.draw):
        yield from draw(groups)
    if networks and any(group.planar for group in groups):
        # Only here torch is imported.
        from costate.reports import planar

        yield from planar.draw(groups, broken)


def _page(title: str, rows: Table, figures: Sequence[str], broken: Sequence[Broken]) -> str:
    items = "\n".join(f"<li><code>{escape(str(each.folder))}</code>: {escape(each.reason)}</li>" for each in broken)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        "<p>Test scores of the checkpoint with the best validation score (of equal scores that with the lower loss), ",
        "mean ± standard deviation over seeds; repeats of a seed count as their mean.",
        "Files: <a href=table.md>table.md</a>, <a href=table.csv>table.csv</a> (all numbers, all digits), ",
        "<a href=table.tex>table.tex</a>.</p>",
        _table(rows),
        *figures,
        f"<h2>Left out</h2>\n<ul>\n{items}\n</ul>" if broken else "",
        "</html>\n",
    ]
    return "\n".join(parts)


def _table(rows: Table) -> str:
    left = texts(rows)

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = (" class=n" if i >= left else "" for i in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{k}>{escape(c)}</{tag}>" for c, k in zip(cells, kinds, strict=True)) + "</tr>"

    body = "\n".join(row(cells, "td") for cells in rows[1:])
    return f"<div class=wide><table><thead>{row(rows[0], 'th')}</thead><tbody>\n{body}\n</tbody></table></div>"


def _shown(name: str, caption: str, svg: Path) -> str:
    """A figure that has been written, with its picture in the page."""
    data = base64.b64encode(svg.read_bytes()).decode()
    links = f"<a href={svg.stem}.png>PNG</a> <a href={svg.name}>SVG</a>"
    image = f'<img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure id={name}>{image}<figcaption>{escape(caption)} {links}</figcaption></figure>"
