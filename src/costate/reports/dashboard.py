"""python -m costate.reports.dashboard: a report on W&B that compares the methods of a project.

Lines are means over the runs of a method, bands their standard deviation: group by another setting on the page itself.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from costate.runs.program import speak

BY = "labels.method"
"""The setting that runs are grouped by."""
COSINES = "Cosine of predicted and true gradients, by boundary"
TOLD = (
    "Test scores are of the best epoch: the one with the best validation score, and of equal ones that with the "
    "lower loss. `val/loss` in a run's summary is the least of all its epochs."
)
LINES = (
    ("Validation loss", "Step", "val/loss", True),
    ("Validation loss by seconds of the fit", "fit_seconds", "val/loss", True),
    ("Validation accuracy", "Step", "val/accuracy", False),
    ("Training loss", "Step", "train/loss", True),
    ("Learning rate", "Step", "learning_rate", False),
    ("Norm of the first stage's gradient", "Step", "stage/0/gradient_norm", True),
)
"""Title, abscissa, metric, logarithmic or not."""
BARS = (
    ("Test accuracy, mean over runs", "test/accuracy"),
    ("Least validation loss, mean over runs", "val/loss"),
    ("Samples a second, mean over runs", "samples_per_second"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m costate.reports.dashboard", description=__doc__)
    parser.add_argument("--project", default="costate", help="of the runs, and of the report (costate)")
    parser.add_argument("--entity", help="user or team (the key's own)")
    parser.add_argument("--draft", action="store_true", help="for your own eyes")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write what would be sent, as JSON, and send nothing")
    arguments = parser.parse_args()
    if find_spec("wandb_workspaces") is None:
        print("wandb-workspaces is not installed: pip install -e '.[wandb]'.", file=sys.stderr)
        return 2
    if arguments.to is not None:
        report = compose(arguments.project, arguments.entity or "entity")
        arguments.to.write_text(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2))
        print(f"Written: {arguments.to}")
        return 0
    return _send(arguments.project, arguments.entity, arguments.draft)


def _send(project: str, entity: str | None, draft: bool) -> int:
    import wandb

    try:
        report = compose(project, str(entity or wandb.Api().default_entity))
        report.save(draft=draft)
    except Exception as error:  # W&B's client raises whatever its libraries do
        reason = str(error).splitlines()[0]
        print(f"W&B has not taken the report ({reason}): wandb login, or --to FILE.", file=sys.stderr)
        return 1
    print(f"Written: {report.url}")
    return 0


def compose(project: str, entity: str) -> Any:
    """The report, not yet sent; needs neither a key nor a network."""
    import wandb_workspaces.reports.v2 as wr

    by = wr.Config(BY)
    mean: dict[str, Any] = {"groupby": by, "groupby_aggfunc": "mean"}
    lines = [
        wr.LinePlot(title=title, x=x, y=[metric], title_y=metric, log_y=log, groupby_rangefunc="stddev", **mean)
        for title, x, metric, log in LINES
    ]
    cosines = wr.LinePlot(title=COSINES, metric_regex="boundary/.*/cosine", groupby=by)
    bars = [wr.BarPlot(title=title, metrics=[wr.SummaryMetric(metric)], **mean) for title, metric in BARS]
    pictures = wr.MediaBrowser(title="Pictures", media_keys=["surface"])
    panels: list[Any] = [*bars, *lines, cosines, pictures, wr.RunComparer(diff_only="split")]
    for i, panel in enumerate(panels):
        panel.layout = wr.Layout(x=8 * (i % 3), y=7 * (i // 3), w=8, h=7)
    # Without a project of its own it is the report's; to name one asks the server for it.
    columns = ["run:state", f"config:{BY.replace('.', '.value.', 1)}", "summary:test/accuracy", "summary:best_epoch"]
    grid = wr.PanelGrid(runsets=[wr.Runset(name="All runs", pinned_columns=columns)], panels=panels)
    return wr.Report(project=project, entity=entity, title="Methods compared", blocks=[wr.P(TOLD), grid])


if __name__ == "__main__":
    speak()
    sys.exit(main())
