"""Words of a command line: quoted for who reads them, and what was probably meant by those that are none of ours.

Light: imports no torch.
"""

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from omegaconf import DictConfig

PLAIN = re.compile(r"[\w./:+-]+", re.ASCII)
"""What Hydra takes as it stands."""

ELSEWHERE = {
    "batch": "data.batch_size",
    "dataset": "data",
    "gpus": "trainer.devices",
    "layers": "arch.depth",
    "learning_rate": "optimizer.lr",
    "limit_train_batches": "trainer.train_batches",
    "limit_val_batches": "trainer.eval_batches",
    "max_epochs": "epochs",
    "model": "arch",
    "n_layers": "arch.depth",
    "network": "arch",
    "num_epochs": "epochs",
    "num_layers": "arch.depth",
    "optim": "optimizer",
}
"""What other programs call a setting, and what it is called here."""


def override(key: str, value: object) -> str:
    """key=value for Hydra, whatever is in the value."""
    text = str(value)
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    # Within quotes a backslash is one of the value's, unless a quote, the end or ${ comes behind it.
    inner = re.sub(r"(\\*)('|\$\{|$)", lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), text)
    return f"{key}='{inner}'"


def pasted(key: str, value: object) -> str:
    """The same for a shell."""
    text = override(key, value)
    return f'"{text}"' if "'" in text and not re.search(r'["$`\\!]', text) else shlex.quote(text)


def forced(words: Sequence[str]) -> Sequence[str]:
    """A command line that resumes may set what its own axes do not have: the saved ones do, and tell what does not fit.

    a.b=c becomes ++a.b=c, which Hydra takes without looking.
    """
    if not any(word.startswith("resume=") for word in words):
        return words
    return [f"++{word}" if re.match(r"(?!hydra\.)\w+\.[\w.]+=", word) else word for word in words]


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question to ask for a name that is the beginning of a known one or close to one, else nothing."""
    known = list(known)
    begun = [other for other in known if len(name) > 1 and other.startswith(name)]
    close = begun or difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def meant(name: str, known: Sequence[str], cfg: Any) -> str:
    """The question to ask for a setting that is not among those known in its place: of this last part elsewhere in all
    settings, of another name, or nearly so.
    """
    same = [key for key in leaves(cfg) if key.rpartition(".")[2] == name]
    elsewhere = [ELSEWHERE[name]] if name in ELSEWHERE else same
    return f" (did you mean {' or '.join(elsewhere[:3])}?)" if elsewhere else suggestion(name, known)


def leaves(node: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
        return [prefix.rstrip(".")]
    names = [str(key) for key in node if not str(key).startswith("_") and (prefix or key != "hydra")]
    return [leaf for name in names for leaf in leaves(node._get_node(name), f"{prefix}{name}.")]


def ranged(key: str, value: Any) -> str:
    """What to say of 0..2, 0-2 or [0,1,2] where one number is asked for; else nothing."""
    found = re.fullmatch(r"(\d+)(?:\.\.+|-|:)(\d+)", str(value))
    if not (found or isinstance(value, list)):
        return ""
    first, last = (int(found[1]), int(found[2])) if found else (0, 2)
    return f" (several values are a sweep: -m {key}={first},{first + 1},... or -m '{key}=range({first},{last + 1})')"


def nowhere(words: Iterable[str]) -> str | None:
    """What to say of a folder without a name, hydra.run.dir=, which would be the working directory."""
    keys = r"resume=(?!null)|hydra\.(?:run\.dir|sweep\.dir|sweep\.subdir)="
    for word in words:
        if found := re.fullmatch(rf"\+*({keys})(?:null|''|\"\")?", word.strip()):
            return f"{word.strip()} names no folder: give one, as {found[1]}runs/mine, or leave it out."
    return None


def flags(words: Sequence[str], hydras: Collection[str]) -> str | None:
    """What to say of an option with hyphens that is none of Hydra's: --arch verlet, --epochs=3."""
    for i, word in enumerate(words):
        found = re.fullmatch(r"--([a-zA-Z][\w./-]*)(?:=(.*))?", word)
        if not found or any(option.startswith(f"--{found[1]}") for option in hydras):
            continue
        value = found[2] if found[2] is not None else next((w for w in words[i + 1 : i + 2] if "=" not in w), "...")
        key = found[1].replace("-", "_")
        return f"{word}: settings are written without hyphens, as {ELSEWHERE.get(key, key)}={value}."
    return None
