"""What every process has done when, in Chrome's trace format, which Perfetto (ui.perfetto.dev) opens."""

import json
from pathlib import Path
from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer

from costate.execution.clock import Span


@final
class Timeline(Callback):
    """Writes the timeline when the training has ended, if the execution remembers one.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        execution: Any = pl_module.execution
        processes = execution.timeline()
        if trainer.is_global_zero and any(spans for _, spans in processes):
            self.path.write_text(json.dumps({"traceEvents": events(processes)}), encoding="utf-8")


def events(processes: list[tuple[str, list[Span]]]) -> list[dict[str, Any]]:
    """A complete event ("X") for each span, times in microseconds from the first one; a process is a row."""
    zero = min(span.start for _, spans in processes for span in spans)
    names = [
        {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": name}}
        for pid, (name, _) in enumerate(processes)
    ]
    work = [
        {
            "name": span.name,
            "cat": "wait" if span.name.startswith("wait") else "work",
            "ph": "X",
            "ts": round(1e6 * (span.start - zero), 1),
            "dur": round(1e6 * span.seconds, 1),
            "pid": pid,
            "tid": 0,
            "args": {"batch": span.batch},
        }
        for pid, (_, spans) in enumerate(processes)
        for span in spans
    ]
    return names + work
