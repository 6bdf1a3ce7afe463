"""The check of all settings before anything heavy is imported: keys known, types right, numbers within bounds."""

import functools
import types
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from costate.config.settings import Count, Rate, Seed, Share, Signature, signature
from costate.config.words import ranged, suggestion

WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_")


class SettingError(ValueError):
    """A setting that cannot be: one sentence for whoever gave it."""


@dataclass
class Run:
    """The settings of a run; each part is a node whose settings are its class's keyword-only arguments.

    Those with a default here belong to one option of an axis.
    """

    seed: Seed
    stages: Count
    balance: list[Count] | Literal["work"] | None
    epochs: Count
    clip: Rate | None
    log_every: Count
    resume: str | None
    labels: Any
    arch: Any
    data: Any
    method: Any
    optimizer: Any
    annealing: Any
    execution: Any
    levels: Any
    trainer: Any
    callbacks: Any
    logger: Any
    workers: Count = 1
    span: Count = 1
    discount: Share = 1.0
    compile: bool = False
    channels_last: bool = False
    summary: bool = False


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that an earlier Costate has begun, with the switches that came later, which were off."""
    return {switch.name: False for switch in fields(Run) if switch.default is False} | settings


def check(cfg: DictConfig) -> DictConfig:
    """The configuration with interpolations resolved and values converted; SettingError names the first bad key."""
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        # A function that conf/ calls may refuse in words of its own.
        told = str(error).splitlines()[0]
        _, _, own = told.partition("ValueError raised while resolving interpolation: ")
        raise SettingError(own or f"{error.full_key}: {told}.") from error
    checked = _conform("", values, signature(f"{__name__}.Run"))  # type: ignore[arg-type]
    return OmegaConf.create({name: _walk(name, value) for name, value in checked.items()})


def _walk(key: str, value: Any) -> Any:
    """Checks every node that names a target, however deep."""
    if isinstance(value, list):
        return [_walk(f"{key}.{i}", item) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    found = signature(value["_target_"]) if "_target_" in value else None
    if found is not None:
        if key.startswith("callbacks."):
            # Nothing is passed to them, so that a library's callback may ask for what it needs by place.
            found = Signature({**found.objects, **found.settings}, found.open)
        hydra = {name: value[name] for name in HYDRA_KEYS if name in value}
        own = {name: item for name, item in value.items() if name not in hydra}
        value = {**hydra, **_conform(f"{key}.", own, found)}
    return {name: _walk(f"{key}.{name}", item) for name, item in value.items()}


def _conform(prefix: str, values: dict[str, Any], expected: Signature) -> dict[str, Any]:
    """The values of one node, converted to what its signature says."""
    for name in values:
        if name not in expected.settings and not expected.open:
            raise SettingError(f"{prefix}{name}: no such setting{suggestion(name, expected.settings)}.")
    for name, setting in expected.settings.items():
        if setting.required and name not in values:
            raise SettingError(f"{prefix}{name} is missing.")
    kinds = {name: expected.settings[name].kind for name in values if name in expected.settings}
    return {**values, **{name: _convert(prefix + name, kind, values[name]) for name, kind in kinds.items()}}


def _convert(key: str, kind: Any, value: Any) -> Any:
    """The value as the first alternative of the kind that takes it."""
    for alternative in _alternatives(kind):
        node = OmegaConf.structured(_node(_storage(alternative)))
        try:
            node.value = value
        except OmegaConfBaseException:
            continue
        converted = OmegaConf.to_container(node)["value"]  # type: ignore[index, call-overload]
        if _holds(alternative, converted):
            return converted
    choices = [choice for inner in _alternatives(kind) if get_origin(inner) is Literal for choice in get_args(inner)]
    wanted = _describe(kind)
    hint = suggestion(str(value), map(str, choices)) or ("" if "a list" in wanted else ranged(key, value))
    raise SettingError(f"{key} must be {wanted}, not {'null' if value is None else repr(value)}{hint}.")


@functools.cache
def _node(storage: Any) -> type:
    """One value of that type; to make a class takes longer than to fill it."""
    return make_dataclass("Node", [("value", storage, field(default=MISSING))])


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _storage(kind: Any) -> Any:
    """The type by which OmegaConf converts a value of this kind; `Any` where the value passes as it is."""
    if get_origin(kind) is Annotated:
        return get_args(kind)[0]
    if get_origin(kind) is list:
        return list[_storage(get_args(kind)[0])]  # type: ignore[misc]
    if get_origin(kind) is Literal and all(isinstance(choice, str) for choice in get_args(kind)):
        return str
    return kind if kind in WORDS else Any


def _holds(kind: Any, value: Any) -> bool:
    """What OmegaConf does not know: choices, bounds, null."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is Annotated:
        return all(bound.holds(value) for bound in kind.__metadata__)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_holds(get_args(kind)[0], item) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict)
    return kind is not type(None) or value is None


def _describe(kind: Any) -> str:
    if len(_alternatives(kind)) > 1:
        return " or ".join(map(_describe, _alternatives(kind)))
    if get_origin(kind) is Annotated:
        return f"{WORDS[get_args(kind)[0]]} {' and '.join(map(str, kind.__metadata__))}"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is list:
        return f"a list (each item {_describe(get_args(kind)[0])})"
    if get_origin(kind) is dict:
        return "a mapping like {name: value}"
    return "null" if kind is type(None) else WORDS.get(kind, str(kind))
