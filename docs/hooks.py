"""Notebooks that `make notebooks` has rendered become pages; where there are none, the site does without."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the rendered notebooks below the page about them."""
    pages = sorted(Path(config.docs_dir, "notebooks").glob("*.md"))
    for entry in config.nav or []:
        if pages and entry.get("Notebooks") == "notebooks.md":
            entry["Notebooks"] = ["notebooks.md", *(f"notebooks/{page.name}" for page in pages)]
    return config
