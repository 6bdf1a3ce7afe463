"""What is measured or rendered, and not written, is shown where it is there: notebooks, figures."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig

FIGURE = re.compile(r"<!-- figure: (\S+): (.+) -->")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the notebooks that `make notebooks` has rendered below the page about them."""
    pages = sorted(Path(config.docs_dir, "notebooks").glob("*.md"))
    for entry in config.nav or []:
        if pages and entry.get("Notebooks") == "notebooks.md":
            entry["Notebooks"] = ["notebooks.md", *(f"notebooks/{page.name}" for page in pages)]
    return config


def on_page_markdown(markdown: str, config: MkDocsConfig, **others: Any) -> str:
    """Puts a figure where it is named, if it has been drawn."""

    def shown(found: re.Match[str]) -> str:
        return f"![{found[2]}]({found[1]})" if Path(config.docs_dir, found[1]).exists() else ""

    return FIGURE.sub(shown, markdown)
