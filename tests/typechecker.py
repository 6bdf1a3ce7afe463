"""Checks annotations of a package while tests run: beartype's types everywhere, jaxtyping's shapes where one is named.

Checking shapes costs a call tens of microseconds, so what names none is checked by beartype alone. A function that is
made inside of another one is not checked: it would be compiled anew each time, for a millisecond.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

# As people read annotations: an int is welcome where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
with_shapes = jaxtyping.jaxtyped


def checked(made: Any, typechecker: Callable[[Any], Any]) -> Any:
    """The class or function with checks in it; of classes the `__init__` that dataclasses are given."""
    if isinstance(made, type):
        if is_dataclass(made) and "__init__" in vars(made):
            made.__init__ = checked(made.__init__, typechecker)
        return made
    if "<locals>" in made.__qualname__:
        return made
    shapes = any("jaxtyping" in repr(annotation) for annotation in made.__annotations__.values())
    return with_shapes(made, typechecker=typechecker) if shapes else typechecker(made)


def install(package: str) -> None:
    """Before anything of the package is imported: the hook rewrites modules while they load."""
    jaxtyping.jaxtyped = lambda *, typechecker: partial(checked, typechecker=typechecker)
    jaxtyping.install_import_hook(package, "typechecker.check")
