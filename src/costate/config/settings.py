"""Types for settings, a plain type and the bound that its values keep; and the settings that a constructor takes.

They are read from its source text: checking a run's settings must not import torch.
"""

import ast
import importlib.util
import math
import typing
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated, Any


@dataclass(frozen=True)
class Bound:
    """An interval of allowed numbers: ``least`` is inside, ``above`` is outside, ``most`` is inside."""

    least: float | None = None
    above: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the value lies in the interval; what is not finite is within no bound."""
        return (
            abs(value) < math.inf
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        parts = (("at least", self.least), ("above", self.above), ("at most", self.most))
        return " and ".join(f"{word} {number:.10g}" for word, number in parts if number is not None)


Count = Annotated[int, Bound(least=1)]
Size = Annotated[int, Bound(least=0)]
Rate = Annotated[float, Bound(above=0)]
Amount = Annotated[float, Bound(least=0)]
Seed = Annotated[int, Bound(least=0, most=2**32 - 1)]
"""Torch's generator on a CPU keeps 32 bits of its seed: with 2³² it draws what it draws with 0."""
Share = Annotated[float, Bound(least=0, most=1)]

PLAIN: dict[str, Any] = {
    **{kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)},
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Optional")},
    **{name: value for name, value in globals().copy().items() if typing.get_origin(value) is typing.Annotated},
}


@dataclass(frozen=True)
class Setting:
    """The annotation of one setting (`Any` where it is no plain type), and whether it has to be given."""

    kind: Any
    required: bool


@dataclass(frozen=True)
class Signature:
    """The settings of one target; an open one (`**kwargs`) takes others too.

    Attributes:
        objects: arguments by place, which the program passes; to callbacks it passes none, so that they are settings.
    """

    settings: dict[str, Setting]
    open: bool = False
    objects: dict[str, Setting] = field(default_factory=dict)


def signature(target: str) -> Signature | None:
    """The settings of the class or function with this dotted name, or None where its source is not found.

    Settings are the keyword-only arguments, and positional ones that have a default; the other positional ones are
    objects. Of a dataclass they are its fields.
    """
    module, _, name = target.rpartition(".")
    module, node = _find(module, name)
    if isinstance(node, ast.FunctionDef):
        return _arguments(_Scope(module), node.args)
    if not isinstance(node, ast.ClassDef):
        return None
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _arguments(_Scope(module), part.args)
    bases = (signature(f"{module}.{base.id}") for base in node.bases if isinstance(base, ast.Name))
    inherited = [base for base in bases if base is not None]
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return next((found for found in inherited if found.settings or found.open or found.objects), Signature({}))
    fields = {name: setting for found in inherited for name, setting in found.settings.items()}
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part.annotation):
            fields[ast.unparse(part.target)] = Setting(_Scope(module).read(part.annotation), part.value is None)
    return Signature(fields)


def _arguments(scope: "_Scope", arguments: ast.arguments) -> Signature:
    positional = arguments.posonlyargs + arguments.args
    kinds = [(argument.arg, scope.read(argument.annotation)) for argument in positional]
    bare = len(positional) - len(arguments.defaults)
    objects = {name: Setting(kind, True) for name, kind in kinds[:bare] if name != "self"}
    found = {name: Setting(kind, False) for name, kind in kinds[bare:]}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[argument.arg] = Setting(scope.read(argument.annotation), default is None)
    return Signature(found, arguments.kwarg is not None, objects)


def _find(module: str, name: str) -> tuple[str, ast.AST | None]:
    """Where a name of a module is defined: its module, and the definition or the value assigned to it, if any."""
    for node in _statements(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(node.module, alias.name)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return module, node.value
    return module, None


@cache
def _statements(module: str) -> list[ast.stmt]:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    for part in rest:
        # Part by part: to ask for a dotted name would import its parents.
        spec = PathFinder.find_spec(part, spec.submodule_search_locations or []) if spec else None
    path = Path(spec.origin or "") if spec else Path()
    return ast.parse(path.read_text(encoding="utf-8")).body if path.suffix == ".py" else []


class _Scope(dict[str, Any]):
    """The names that an annotation may use: plain types, bounded ones, and what the module itself assigns."""

    def __init__(self, module: str):
        super().__init__(PLAIN)
        self.module = module

    def __missing__(self, name: str) -> Any:
        module, node = _find(self.module, name)
        if not isinstance(node, ast.expr):
            raise KeyError(name)
        return _Scope(module).read(node)

    def read(self, annotation: ast.expr | None) -> Any:
        """The annotation's value, or `Any` where it names something that is no plain type."""
        if annotation is None:
            return Any
        try:
            return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {"__builtins__": {}}, self)
        except (NameError, AttributeError, TypeError, KeyError):
            return Any
