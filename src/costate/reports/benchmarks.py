"""What `python -m costate.benchmarks` has written: rows of a name and numbers."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from costate.reports import scaling


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, a list of objects or an object with such a list in it; none where it holds no such thing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return []
    lists = [content] if isinstance(content, list) else list(content.values()) if isinstance(content, dict) else []
    rows = next((each for each in lists if isinstance(each, list) and each and isinstance(each[0], dict)), [])
    return [row for row in rows if isinstance(row, dict)]


def bars(rows: list[dict[str, Any]]) -> Figure:
    """Speed over the reference by rows: the column whose name speaks of a ratio or a speed-up.

    Raises:
        ValueError: there is no such column.
    """
    numbers = {name for row in rows for name, value in row.items() if isinstance(value, int | float)}
    ratio = next((n for n in sorted(numbers) if any(word in n.lower() for word in ("ratio", "speed"))), None)
    name = next((n for n, value in rows[0].items() if isinstance(value, str)), None)
    if ratio is None or name is None:
        raise ValueError(f"No column of {', '.join(rows[0])} is a name, or none a ratio or speed-up.")
    return scaling.bars({str(row[name]): float(row[ratio]) for row in rows if row.get(ratio) is not None})
