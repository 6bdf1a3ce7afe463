"""Puts bugs into the code, one by one, and looks whether the tests notice.

    python tests/mutants.py [--only WORD] [--wide]

Each bug is put into a copy of the working tree, so that whatever ends this program leaves the tree as it is. Tests that
concern the file run first, up to the first failure; a bug that survives them meets all of their folder, and with --wide
all tests. A line tells what became of each, the last one the share that was caught; the exit code is 1 if it is below
95 %.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PRELOADED = ("torch", "lightning", "hydra", "pytest", "hypothesis", "beartype", "jaxtyping", "scipy.integrate")
"""What every copy imports; nothing of Costate is among it."""
ENOUGH = 0.95
LEFT: list[ModuleType] = []


class Mutant(NamedTuple):
    """A text of a file of src/costate, what it becomes, and the tests that concern it."""

    file: str
    old: str
    new: str
    tests: str


MUTANTS = [
    # Numerics
    Mutant(
        "architectures/forms.py",
        ".transpose(-4, -3).flip(-1, -2)",
        ".transpose(-4, -3)",
        "architectures/test_fields.py architectures/test_integrators.py architectures/test_stable.py",
    ),
    Mutant(
        "architectures/fields.py",
        "0.5 * (self.K - ",
        "(self.K - ",
        "architectures/test_fields.py architectures/test_integrators.py architectures/test_stable.py",
    ),
    Mutant(
        "architectures/fields.py",
        "h, h if j else kick)",
        "h, h)",
        "architectures/test_fields.py architectures/test_integrators.py architectures/test_stable.py",
    ),
    Mutant("architectures/integrators.py", "layer.force)", "layer.f)", "architectures/test_integrators.py"),
    Mutant(
        "core/block.py",
        "torch.lerp(θ, behind, 0.25)",
        "torch.lerp(θ, behind, 0.5)",
        "architectures/test_prolong.py",
    ),
    Mutant("architectures/reversal.py", "λ[b] = λ[b] + pull", "λ[b] = λ[b] - pull", "architectures/test_reversal.py"),
    Mutant(
        "architectures/norm.py",
        "spread * n / (n - 1)",
        "spread",
        "architectures/test_norm.py execution/test_replicas.py",
    ),
    Mutant(
        "architectures/norm.py",
        "share * (centre - m).square()",
        "0 * (centre - m).square()",
        "architectures/test_norm.py execution/test_replicas.py",
    ),
    Mutant(
        "architectures/chain.py",
        "torch.cat([b - self",
        "torch.cat([b + self",
        "architectures/test_reversal.py architectures/test_own.py",
    ),
    Mutant("core/measures.py", "Y - Y.mean(dim=0)", "Y - Y.mean()", "test_measures.py"),
    Mutant("methods/memories.py", "alpha=steps)", "alpha=1)", "methods/test_late_gradients.py"),
    Mutant(
        "methods/synthetic_gradients.py",
        'reduction="sum") / (2 * len(h))',
        'reduction="mean")',
        "interfaces methods/test_equalities.py methods/test_contract.py",
    ),
    Mutant(
        "methods/synthetic_gradients.py",
        "torch.lerp(self.predict(h, y), arrived, share)",
        "torch.lerp(arrived, self.predict(h, y), share)",
        "interfaces methods/test_equalities.py methods/test_contract.py",
    ),
    Mutant("methods/compression.py", "g.abs().topk", "g.topk", "test_posts.py"),
    # Training
    Mutant(
        "training/optimizers.py",
        "max(matrices.shape[1:])",
        "min(matrices.shape[1:])",
        "training/test_optimizers.py",
    ),
    Mutant(
        "training/optimizers.py", "reversed(range(len(groups)))", "range(len(groups))", "training/test_optimizers.py"
    ),
    Mutant("training/optimizers.py", "(1 - self.warmup)", "1", "training/test_optimizers.py training/test_plan.py"),
    Mutant("training/refinement.py", "fine / 2**degree", "fine / 2", "training/test_refinement.py"),
    Mutant("training/levels.py", "return sum(epoch >= end", "return sum(epoch > end", "training/test_plan.py"),
    Mutant(
        "callbacks/checkpoints.py",
        "(self.sign * score, -loss) >",
        "(self.sign * score, loss) >",
        "callbacks/test_best.py",
    ),
    # Schedules
    Mutant(
        "core/schedules.py",
        "batch - delay * (stages - 1 - k)",
        "batch - delay * (stages - k)",
        "test_schedules.py",
    ),
    Mutant(
        "core/schedules.py",
        "k, batch)\n        yield Event(Operation.UPDATE, k, batch)\n    yield from _learn(stages, batch - lag)",
        "k, batch)\n        yield Event(Operation.UPDATE, k, batch)\n    yield from _learn(stages, batch)",
        "test_schedules.py",
    ),
    Mutant(
        "core/schedules.py",
        "for k in range(stages - 1):\n            yield",
        "for k in range(stages):\n            yield",
        "test_schedules.py",
    ),
    # Data
    Mutant(
        "data/batches.py",
        "generator(self.seed, epoch)",
        "generator(self.seed)",
        "data/test_batches.py data/test_resumed_batches.py",
    ),
    Mutant(
        "data/batches.py",
        "joint[:, self.replica :: self.replicas]",
        "joint[:, :: self.replicas]",
        "data/test_batches.py data/test_resumed_batches.py",
    ),
    Mutant(
        "data/batches.py",
        "self.batch = self._skip = state",
        "self.batch = state",
        "data/test_batches.py data/test_resumed_batches.py",
    ),
    Mutant("data/augment.py", "% (2 * most + 1)", "% (most + 1)", "data/test_augment.py"),
    Mutant("data/augment.py", "joint[self.replica :: self.replicas]", "joint[: len(x)]", "data/test_augment.py"),
    Mutant("data/planar.py", "t + 0.2 * y, 4 * math.pi * t", "t + 0.2 * y, 2 * math.pi * t", "data/test_planar.py"),
    # Reports
    Mutant(
        "reports/groups.py",
        "from statistics import fmean, mean, stdev",
        "from statistics import fmean, mean, pstdev as stdev",
        "reports/test_report.py reports/test_sweep.py",
    ),
    Mutant(
        "reports/groups.py",
        'found.setdefault(run.config.get("seed"), [])',
        "found.setdefault(id(run), [])",
        "reports/test_report.py",
    ),
    Mutant("reports/table.py", "sign * s >= sign * bar", "s >= bar", "reports/test_report.py"),
    Mutant(
        "reports/networks.py",
        "counts.sum(1, keepdims=True)",
        "counts.sum(0, keepdims=True)",
        "reports/test_report.py cli/test_evaluate.py",
    ),
    Mutant("reports/sweep.py", "key=lambda job: job.number", "key=lambda job: -job.number", "reports/test_sweep.py"),
    Mutant("reports/networks.py", "flatten() - 1) / network.h", "flatten() - 1)", "reports/test_report.py notebooks"),
    # Runs
    Mutant("training/loggers.py", "[*before, *self._waiting]", "self._waiting", "cli/test_kept_files.py"),
    Mutant("runs/files.py", "path.unlink(missing_ok=True)", "pass", "cli/test_kept_files.py"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", default="", help="those whose file has it in its name")
    parser.add_argument("--wide", action="store_true", help="survivors meet all tests")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.file]
    for name in PRELOADED:
        __import__(name)
    survivors = []
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        copied(tree)
        for mutant in chosen:
            begin = time.monotonic()
            rounds = [mutant.tests.split(), sorted({test.split("/")[0] for test in mutant.tests.split()})]
            caught = any(is_caught(mutant, tree, tests) for tests in [*rounds, *([["."]] if options.wide else [])])
            survivors += [] if caught else [mutant]
            said = f"{'caught' if caught else 'SURVIVED':8}  {time.monotonic() - begin:4.0f} s"
            print(f"{said}  {mutant.file}: {mutant.old!r} -> {mutant.new!r}", flush=True)
    share = 1 - len(survivors) / len(chosen)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught, {100 * share:.0f} %")
    return share < ENOUGH


def copied(tree: Path) -> None:
    """The files that git knows of or would take in, as they are now."""
    names = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in subprocess.run(names, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)


def is_caught(mutant: Mutant, tree: Path, tests: Sequence[str]) -> bool:
    """Whether a test fails with the bug in the copy; a bug whose place is not there is an error."""
    path = tree / "src" / "costate" / mutant.file
    text = path.read_text(encoding="utf-8")
    assert mutant.old in text, f"{mutant.file} has no {mutant.old!r}"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        # A fork has the heavy imports behind it.
        child = multiprocessing.get_context("fork").Process(target=_run, args=(tree, tests))
        child.start()
        child.join()
    finally:
        path.write_text(text, encoding="utf-8")
    assert child.exitcode in (0, 1), f"pytest ends with {child.exitcode}"
    return child.exitcode == 1


def _run(tree: Path, tests: Sequence[str]) -> None:
    import pytest

    os.chdir(tree)
    sys.path[:0] = [str(tree), str(tree / "src"), str(tree / "tests")]
    os.environ["PYTHONPATH"] = str(tree / "src")
    sys.dont_write_bytecode = True
    # The environment's own Costate, which every Python of it begins with; what it has told torch dies with it.
    LEFT.extend(sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "costate")
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(str(tree / "tests" / name) for name in tests)])
    # An error of collection, 2, is one that the tests have found.
    os._exit(1 if code == 2 else int(code))


if __name__ == "__main__":
    sys.exit(main())
