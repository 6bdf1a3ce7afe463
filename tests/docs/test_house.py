"""The picture of the house has every room, and a line down for every import that no other line says."""

import importlib.util
import re
from graphlib import CycleError
from pathlib import Path

import pytest

from pages import ROOT

SPEC = importlib.util.spec_from_file_location("house", ROOT / "docs" / "house.py")
house = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(house)

IMPORTS = {"roof": {"walls", "ground"}, "walls": {"ground"}, "shed": {"ground"}, "ground": set()}


def test_rooms_stand_on_what_they_import_and_a_line_is_drawn_once():
    assert house.floors(IMPORTS) == [["ground"], ["shed", "walls"], ["roof"]]
    assert set(house.lines(IMPORTS)) == {("roof", "walls"), ("walls", "ground"), ("shed", "ground")}
    with pytest.raises(CycleError):
        house.floors(IMPORTS | {"ground": {"roof"}})
    circle = house.joined(IMPORTS | {"walls": {"ground", "roof"}})
    assert circle == {"ground": set(), "roof ⇄ walls": {"ground"}, "shed": {"ground"}}


def test_the_page_shows_the_house_as_it_is():
    packages = {path.parent.name for path in Path(ROOT, "src/costate").glob("*/__init__.py")}
    page = (ROOT / "docs/adding.md").read_text(encoding="utf-8")
    shown = house.on_page_markdown(page)
    names = {name for text in re.findall(r">([^<>]+)</text>", shown) for name in text.split(" ⇄ ")}
    assert names == packages | {"train.py"}
    assert house.on_page_markdown("# no house") == "# no house"
