"""Settings that say where data lie, which change no number."""

from typing import Any

PLACES = {"data.root": "COSTATE_DATA", "data.cache": "COSTATE_CACHE", "data.download": ""}
"""By their names, the variables of the environment that say the same."""


def places(data: Any) -> dict[str, str]:
    """Those of a data set. The root of one that nobody can download, as that of data=folder, is no place of the data:
    it is the data.
    """
    return {key: variable for key, variable in PLACES.items() if key != "data.root" or "download" in (data or ())}
