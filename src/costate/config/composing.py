"""What a command line makes of conf/, and the functions that its files call, ${product:...}, ${chosen:...}.

Light: imports torch only where a file asks for what this machine does quickly.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import costate
from costate.config import CONF
from costate.config.guide import text

COARSE = {"pipeline": "delayed", "asynchronous": "sg"}
"""Where the lock would keep processes waiting, or where nobody can wait."""

NAMED = ("arch", "method", "data", "seed", "resume", "trainer.progress")
ASIDE = ("hydra", "labels", "logger", "callbacks", "summary", "log_every")
"""Settings that are in a run's name already, or change nothing about it."""

PLACES = {"data.root": "COSTATE_DATA", "data.cache": "COSTATE_CACHE", "data.download": ""}
"""Settings that say where data lie, which changes no number; by them the variables of the environment that do so."""

OWN = ("coarse", "critic", "feedback", "backprop", "delayed", "replay", "petra")
"""Methods that do on coarse levels what they do on the last one: gradients are true, or need no true ones."""


def places(data: Any) -> dict[str, str]:
    """Those of a data set. The root of one that nobody can download, as that of data=folder, is no place of the data:
    it is the data.
    """
    return {key: variable for key, variable in PLACES.items() if key != "data.root" or "download" in (data or ())}


def composed(*overrides: str) -> DictConfig:
    """The settings that train.py would have with these overrides, for those who do not run it by train.py."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def todays(settings: Any) -> Any:
    """The settings of a run that an earlier Costate has begun, with its classes where they are today.

    Raises:
        ValueError: a class has gone.
    """
    if isinstance(settings, dict):
        return {k: _moved(v) if k == "_target_" else todays(v) for k, v in settings.items()}
    return [todays(part) for part in settings] if isinstance(settings, list) else settings


def _moved(target: str) -> str:
    places = _targets()
    package, name = target.split(".")[:2], target.rpartition(".")[2]
    if package[0] != "costate" or target in places:
        return target
    named = [place for place in places if place.endswith(f".{name}")]
    same = [place for place in named if place.split(".")[:2] == package] or named
    if not same and (Path(costate.__file__).parent / "/".join(target.split(".")[1:-1])).with_suffix(".py").exists():
        return target
    if len(same) != 1:
        raise ValueError(f"The run was begun by another version of Costate: it has {target}, which this one has not.")
    return same[0]


@cache
def _targets() -> frozenset[str]:
    files = (path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml"))
    return frozenset(place for text in files for place in re.findall(r"^\s*_target_: (costate\.\S+)", text, re.M))


def product(a: Any, b: Any) -> Any:
    """a b, or nothing where one of them is no number: the check of the settings tells which."""
    return a * b if isinstance(a, int) and isinstance(b, int) else None


def roles(stages: Any, oracle: Any) -> Any:
    """The processes of an asynchronous run: its stages, and a dedicated oracle."""
    return stages + (oracle == "dedicated") if isinstance(stages, int) else None


def parts(processes: Any) -> Any:
    """The processes of an execution that gives each of them a part of the work on a batch.

    Raises:
        ValueError: trainer=ddp has been asked for as well, which gives each the whole network and a share of the batch.
    """
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    if choices.get("trainer") == "ddp":
        execution = choices.get("execution")
        raise ValueError(
            f"trainer=ddp execution={execution}: ranks of ddp hold the whole network, and execution={execution} starts "
            "processes of its own: leave trainer=ddp out (copies of a pipeline are execution.replicas=2)."
        )
    return processes


def adam_rate(batch: Any, method: Any) -> Any:
    """Adam's learning rate for the rows of a step: 0.002 √(rows / 128), the square-root rule (Malladi et al., 2022).

    A step takes `method.accumulate` batches where gradients are late; with backpropagation those are pieces of one.
    """
    batches = method.get("accumulate", 1) if "delay" in method else 1
    rows = batch * batches if isinstance(batch, int) and isinstance(batches, int) else 0
    return round(0.002 * (rows / 128) ** 0.5, 6) if rows > 0 else 0.002


def groups(blocks: Any, head: Any) -> Any:
    """Groups of layers where there are so many blocks of variables: one less, if the head is a block of its own."""
    return blocks - 1 if head == "own" and isinstance(blocks, int) and blocks > 1 else blocks


def layers(sizes: Any) -> Any:
    """The layers of a plain network with hidden ones of these sizes: those and the last one."""
    return len(sizes) + 1 if OmegaConf.is_list(sizes) or isinstance(sizes, list) else None


def having(axis: str, key: str) -> str:
    """The options of an axis whose files have such a setting: `having("arch", "integrator")` are those stable."""
    return ",".join(name for name, settings in options(axis).items() if key in settings)


def lacking(axis: str, key: str) -> str:
    """The others: `lacking("method", "blocks")` are the methods of stages."""
    return ",".join(name for name, settings in options(axis).items() if key not in settings)


def options(axis: str) -> dict[str, Any]:
    """The files of an axis, by their names."""
    files = sorted((CONF / axis).glob("*.yaml"))
    return {path.stem: OmegaConf.load(path) for path in files}


def chosen(axis: str, _root_: Any) -> str:
    """The option that was chosen on an axis, arch=verlet -> verlet; outside a Hydra job, that with its class."""
    if HydraConfig.initialized():
        return str(HydraConfig.get().runtime.choices.get(axis))
    node = _root_[axis]
    target = node.get("integrator", node)["_target_"]
    same = [name for name, own in options(axis).items() if own.get("integrator", own).get("_target_") == target]
    return same[0] if len(same) == 1 else str(target).rpartition(".")[2].lower()


def differs() -> str:
    """What else a command line sets than arch, method, data and seed: depth=8, lr=0.01; for the name of a run."""
    if not HydraConfig.initialized():
        return ""
    pairs = (word.lstrip("+~").partition("=") for word in HydraConfig.get().overrides.task)
    own = [(key, value) for key, _, value in pairs if key not in NAMED and key.split(".")[0] not in ASIDE]
    return "".join(f" {re.split('[./]', key)[-1]}={value}" for key, value in own)[:80]


def coarse_method(method: str, execution: str) -> str:
    """How stages come by their gradients on coarse levels: true ones, and in a pipeline without the lock."""
    return "sg" if method in OWN else COARSE.get(execution, "backprop")


def coarsening(time: Any) -> int:
    """Layers that become one in a coarse copy: 4 that are steps in some time; others are copied as they are."""
    return 1 if time is None else 4


def quick_precision(accelerator: str) -> str:
    """The precision of the quickest step: bf16-mixed, or 32-true on a processor that has no units for bfloat16.

    By its kind, not by a clock: ranks that compose for themselves have to agree.
    """
    import torch

    on_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    return "bf16-mixed" if on_gpu or torch.backends.cpu.get_cpu_capability() == "AVX512" else "32-true"


def guide(_root_: Any) -> str:
    """What --help says of axes and settings, for Hydra's template, in which a dollar is a beginning."""
    return text(_root_, dict(HydraConfig.get().runtime.choices)).replace("$", "$$")


OF_NUMBERS = product, roles, parts, adam_rate, groups, layers, coarse_method, coarsening, quick_precision
OF_CHOICES = having, lacking, chosen, differs, guide
for function in OF_NUMBERS + OF_CHOICES:
    OmegaConf.register_new_resolver(function.__name__, function, replace=True)
