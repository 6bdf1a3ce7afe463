"""Functions of a user's own, named package.module:function in a setting."""

import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch

from costate.config.words import suggestion


def call(axis: str, module: str | None, settings: Mapping[str, Any], offered: Mapping[str, Any]) -> Any:
    """What the function `<axis>.module` returns for `<axis>.settings`.

    Args:
        offered: arguments that the function is given where it has parameters of these names and no setting for them.

    Raises:
        ValueError: there is no such function, it does not take the settings, or it fails.
    """
    told = f"{axis}.module={module}"
    function = find(told, module)
    parameters = inspect.signature(function).parameters
    several = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in settings:
        if name not in parameters and not several:
            raise ValueError(
                f"{axis}.settings.{name}: {module} has no such parameter{suggestion(name, parameters)}; "
                f"it has {', '.join(parameters) or 'none'}."
            )
    arguments = {**{name: value for name, value in offered.items() if name in parameters}, **settings}
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{told}: {error}, give it in {axis}.settings.") from None
    try:
        return function(**arguments)
    except Exception as error:  # whatever a user's function comes to
        if isinstance(error, ValueError) and function.__module__.startswith("costate."):
            raise
        raise _fault(told, error) from error


def _fault(told: str, error: Exception) -> ValueError:
    """An error of a user's own code in a sentence: what it is, and at which line of their files."""
    frames = traceback.extract_tb(error.__traceback__)
    others = __file__, "<frozen", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")
    own = [frame for frame in frames if not frame.filename.startswith(others)] or frames
    place, line, what = own[-1].filename, own[-1].lineno, " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        place, line, what = error.filename or place, error.lineno, error.msg
    return ValueError(f"{told}: {type(error).__name__} in {place}, line {line}: {what}.")


def find(told: str, place: str | None) -> Callable[..., Any]:
    """The function of that name; modules are looked for in the working directory first, as `python -m` does.

    Args:
        told: how the setting is called in a complaint.

    Raises:
        ValueError: there is none.
    """
    module, colon, name = (place or "").partition(":")
    if not (module and colon and name):
        raise ValueError(f"{told} has to be package.module:function, where the function is found.")
    if "/" in module or module.endswith(".py"):
        dotted = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise ValueError(f"{told}: a module is named with dots and without .py, {dotted}:{name}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        # What a module draws while it is imported, it draws once in a process: a second job would have other weights.
        with torch.random.fork_rng(devices=[]):
            found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        own = f"{module}.".startswith(f"{error.name}.")
        asks = "" if own else f", and {module} imports it"
        raise ValueError(
            f"{told}: there is no module {error.name}, neither in {os.getcwd()} nor among the installed packages{asks}."
        ) from None
    except Exception as error:  # whatever a user's module comes to
        raise _fault(told, error) from error
    function = getattr(found, name, None)
    if function is None:
        place = getattr(found, "__file__", None) or "a folder"
        raise ValueError(f"{told}: {module} ({place}) has no {name}{suggestion(name, vars(found))}.")
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        raise ValueError(f"{told} is a {type(function).__name__}: name a function that returns what is wanted.")
    return function
