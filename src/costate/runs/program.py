"""train.py as a program: how others start it, and how it ends, one sentence for what a user can mend, a traceback for
what only we can. Light: imports no torch.
"""

import functools
import io
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from costate.config import CONF
from costate.config.words import flags, forced, meant, nowhere, override, pasted, suggestion
from costate.execution import launching
from costate.execution.launching import meeting
from costate.runs.folder import RunFolder, TakenError

PROGRAM = CONF.parent / "train.py"
STOPPED = {sign for signum in (signal.SIGINT, signal.SIGTERM) for sign in (128 + signum, -signum)}
"""Exit codes of a run that was asked to stop: as it says itself, and where it did not come to that."""
REFUSED, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes: settings that cannot be, anything else that went wrong, Ctrl-C."""

FULL = "HYDRA_FULL_ERROR"


class CommandLine:
    """Runs a Hydra program, one job or a sweep."""

    def __init__(self) -> None:
        self.traces = os.environ.get(FULL)

    def run(self, main: Callable[[], None]) -> int:
        """Composes and runs; returns the exit code."""
        speak()
        # Hydra hands composition errors on, instead of printing them and leaving with code 1.
        os.environ[FULL] = "1"
        told = flags(sys.argv[1:], get_args_parser()._option_string_actions) or nowhere(sys.argv[1:])
        if told:
            print(told, file=sys.stderr)
            return REFUSED
        sys.argv[1:] = forced(sys.argv[1:])
        try:
            meeting.take_place()
            meeting.check_address()
            with meeting.looked_after():
                main()
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return INTERRUPTED
        except Exception as error:
            told = _refusal(error, sys.argv[1:])
            if not told:
                raise
            print(told, file=sys.stderr)
            return REFUSED
        return 0

    def job(self, task: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
        """Turns the errors of a job into words; a job of a sweep that fails does not stop the others."""

        @functools.wraps(task)
        def run(cfg: DictConfig) -> None:
            os.environ.pop(FULL, None)
            speak()
            # A launcher may have come here by another way than `run`.
            meeting.take_place()
            try:
                with meeting.looked_after():
                    task(cfg)
            except Exception as error:
                self._fail(error)

        return run

    def _fail(self, error: Exception) -> None:
        error = cause(error)
        meeting.tell(error)
        refused = _is_ours(error)
        told = refused or isinstance(error, launching.RankError)
        code = error.code if isinstance(error, launching.RankError) else REFUSED if refused else FAILED
        if launching.report(error):
            raise SystemExit(code)
        if self.traces or not told:
            traceback.print_exception(error)
        else:
            print(error, file=sys.stderr)
        hydra = HydraConfig.get()
        folder = RunFolder(hydra.runtime.output_dir, hydra.overrides.task)
        # A sweep that was sent into the folder of another one ends here: what is there is not its own to write on. One
        # that begins takes the results of an earlier end away.
        ended = "epochs" in folder.results()
        if hydra.mode != RunMode.MULTIRUN or isinstance(error, TakenError) or ended:
            folder.discard()
            raise SystemExit(code)
        folder.end({"error": str(error) if told else f"{type(error).__name__}: {error}", "exit_code": code})


def speak() -> None:
    """Lets what is printed be read on every terminal: a sign that it does not have becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def cause(error: Exception) -> Exception:
    """What a constructor raised, out of Hydra's wrapping."""
    while isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _is_ours(error: Exception) -> bool:
    """Whether costate itself refuses; another library's ValueError is a surprise and keeps its traceback."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, ValueError) and frame.f_globals.get("__name__", "").split(".")[0] == "costate"


def _refusal(error: Exception, words: Sequence[str]) -> str:
    """What to say of an error that a user can mend; nothing of any other."""
    if isinstance(error, CompactHydraException):
        return _composition(error, words)
    if isinstance(error, YAMLError):
        return f"A file of conf/ cannot be read: {error}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be written to ({error.strerror}): choose another folder."
    if str(error).startswith("Config group override must be a string"):
        return _no_option(error, words)
    return str(error) if _is_ours(error) else ""


def _composition(error: CompactHydraException, words: Sequence[str]) -> str:
    """Hydra's complaint about axes and settings, with a proposal where a name is nearly right."""
    inner: Any = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        axis, _, option = error.missing_cfg_file.rpartition("/")
        # Of a list of options Hydra does not say what there is.
        options = error.options or sorted(path.stem for path in (CONF / axis).glob("*.yaml"))
        return f"{axis}={option}: no such option{suggestion(option, options)}; there are {', '.join(options)}."
    if isinstance(inner, OmegaConfBaseException) and inner.parent_node is not None and inner.full_key:
        known = [str(key) for key in inner.parent_node if key != "hydra" and not str(key).startswith("_")]
        question = meant(str(inner.key), known, inner.parent_node._get_root())
        return (
            f"{inner.full_key}: no such setting{question}; there {'are ' + ', '.join(known) if known else 'is none'}."
        )
    told = str(error)
    if found := re.match("Ambiguous value for argument '(.*)'", told):
        return f"{found[1]}: several values are a sweep, which python train.py -m ... runs."
    if found := re.match("Error parsing override '(.*)'\nmissing EQUAL", told):
        return f"{found[1]}: settings are written as {found[1]}=value; python train.py --help lists them."
    if "override_grammar" in told:
        word = next((word for word in words if not word.startswith("-") and not _readable(word)), told)
        key, _, value = word.partition("=")
        quoted = f"in quotes as {pasted(key, value)}, " if value and value[0] not in "[{" else ""
        return f"{word}: this cannot be read; settings are written as name=value, {quoted}lists as 'balance=[31,33]'."
    return told


def _readable(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def _no_option(error: Exception, words: Sequence[str]) -> str:
    """What to say where Hydra has found true or a number in the place of an option, debug=true."""
    for axis, _, value in (word.partition("=") for word in words):
        if (CONF / axis).is_dir() and re.fullmatch(r"(?i)true|false|[\d.e+-]+", value):
            options = sorted(path.stem for path in (CONF / axis).glob("*.yaml"))
            return f"{axis}={value}: no such option; there are {', '.join(options)}."
    return str(error)


MANY, TOO_MANY = 2, 8
"""Processes a core that take turns, and so many that the machine has no room for them."""
FEWER = "trainer.devices, or stages and execution.replicas"


def crowd(processes: int, accelerator: str) -> None:
    """Says it where many processes have few cores.

    Raises:
        ValueError: they are too many.
    """
    cores = os.cpu_count() or 1
    if accelerator == "gpu" or processes <= MANY * cores:
        return
    if processes > TOO_MANY * cores:
        raise ValueError(
            f"{processes} processes are more than {TOO_MANY} on each of the {cores} cores of this machine: ask for "
            f"fewer ({FEWER}), or start them yourself, torchrun --nproc-per-node {processes} train.py ..."
        )
    print(
        f"{processes} processes share the {cores} cores of this machine and take turns: fewer are as fast ({FEWER}).",
        file=sys.stderr,
    )


def start(overrides: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """python train.py ..., its words into a file, behind those that are there.

    Raises:
        ValueError: costate is installed without the repository that train.py and conf/ lie in.
    """
    if not PROGRAM.exists():
        raise ValueError(f"{PROGRAM} is not there: install costate from its repository with pip install -e.")
    # A process that starts imports this costate and no other.
    path = os.pathsep.join([str(PROGRAM.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, environment = [sys.executable, str(PROGRAM), *overrides], {**os.environ, "PYTHONPATH": path}
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment)


def run(folder: Path | str, *overrides: str) -> Path:
    """A run, or with "-m" a sweep, to its end, in a folder of its own, which is returned; what has ended is left alone.

    Raises:
        ValueError: it was refused, or failed.
        KeyboardInterrupt: it was asked to stop, as by Ctrl-C, which every process of a terminal is told.
    """
    folder = Path(folder)
    if (folder / "summary.json").exists():
        return folder
    kind = "sweep" if "-m" in overrides else "run"
    where = [override(f"hydra.{kind}.dir", folder.absolute()), "trainer.progress=none"]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "train.log"
    code = start([*overrides, *where], log).wait()
    if code in STOPPED:
        raise KeyboardInterrupt
    if code:
        raise ValueError(f"train.py {' '.join(overrides)}: {reason(code, log)}")
    return folder


def reason(code: int, log: Path) -> str:
    """Why a process has failed: the last line that it said, if it had the time for one."""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with exit code {code}"
