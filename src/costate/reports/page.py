"""index.html: table, figures and what is missing in one file, which needs no network and no other file."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from costate.reports.reading import Broken
from costate.reports.table import Table, texts

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; } .wide { overflow-x: auto; }
th, td { padding: 3px 10px; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid #333; }
figure { margin: 2em 0; } figure img { max-width: 100%; } figcaption { color: #444; font-size: 13px; }
code { background: #f3f3f3; padding: 0 3px; }
"""


class Shown(NamedTuple):
    """A figure that has been written."""

    name: str
    caption: str
    svg: Path


def build(title: str, table: Table, figures: Sequence[Shown], broken: Sequence[Broken]) -> str:
    """The page."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        "<p>Test scores of the checkpoint with the best validation score (of equal scores that with the lower loss), ",
        "mean ± standard deviation over seeds; repeats of a seed count as their mean.",
        "Files: <a href=table.md>table.md</a>, <a href=table.csv>table.csv</a> (all digits), ",
        "<a href=table.tex>table.tex</a>.</p>",
        _table(table),
        *map(_figure, figures),
        _missing(broken),
        "</html>\n",
    ]
    return "\n".join(parts)


def _table(table: Table) -> str:
    left = texts(table)

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = (" class=n" if i >= left else "" for i in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{k}>{escape(c)}</{tag}>" for c, k in zip(cells, kinds, strict=True)) + "</tr>"

    body = "\n".join(row(cells, "td") for cells in table[1:])
    return f"<div class=wide><table><thead>{row(table[0], 'th')}</thead><tbody>\n{body}\n</tbody></table></div>"


def _figure(figure: Shown) -> str:
    data = base64.b64encode(figure.svg.read_bytes()).decode()
    links = f"<a href={figure.svg.stem}.png>PNG</a> <a href={figure.svg.name}>SVG</a>"
    caption = f"<figcaption>{escape(figure.caption)} {links}</figcaption>"
    image = f'<img alt="{escape(figure.caption)}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure id={figure.name}>{image}{caption}</figure>"


def _missing(broken: Sequence[Broken]) -> str:
    if not broken:
        return ""
    items = "\n".join(f"<li><code>{escape(str(each.folder))}</code>: {escape(each.reason)}</li>" for each in broken)
    return f"<h2>Left out</h2>\n<ul>\n{items}\n</ul>"
