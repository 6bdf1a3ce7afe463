"""What an asynchronous role counts: messages in, out and dropped, updates on old ones, staleness."""

from typing import final

from costate.execution.feed import Feed
from costate.execution.histogram import Histogram
from costate.execution.lines import Lines
from costate.execution.oracle import Oracle
from costate.execution.roles import Roles
from costate.execution.sharing import from_all


@final
class Books:
    """The counts of one rank, and with those of the others the totals of the run.

    Args:
        own: the rank's stage, None for a dedicated oracle.
        feed: of the stage.

    Attributes:
        answers: staleness of the synthetic gradients that the stage has used.
        totals: of all ranks, when the books were last closed.
    """

    def __init__(self, roles: Roles, own: int | None, feed: Feed, oracle: Oracle):
        self.roles, self.own, self.oracle = roles, own, oracle
        self.answers = Histogram()
        self.totals: dict[str, float] = {}
        self.feeds: dict[str, Feed] = {f"stage/{own}": feed} if own else {}
        self.feeds |= {f"oracle/{k}": lessons for k, lessons in oracle.lessons.items()}

    def histograms(self) -> dict[str, Histogram]:
        """By role: of the states or lessons that it trains on, and of the answers that it gets."""
        found = {name: feed.staleness for name, feed in self.feeds.items()}
        if self.own is not None and self.own < self.roles.stages - 1:
            found[f"stage/{self.own}/answers" if self.own else "stage/0"] = self.answers
        return found

    def rows(self, traffic: dict[str, float]) -> dict[str, float]:
        """What is logged of this rank, with what its clock says."""
        name = "oracle" if self.own is None else f"stage/{self.own}"
        rows = {f"{name}/{key}": value for key, value in traffic.items() if key not in ("staleness", "queue")}
        for role, feed in self.feeds.items():
            rows[f"{role}/queue"] = float(len(feed.queue))
            rows[f"{role}/dropped"] = float(feed.queue.dropped)
            rows[f"{role}/replayed"] = float(feed.replayed)
        return rows | self._staleness()

    def close(self, lines: Lines) -> None:
        """Adds up the books of all ranks; all call it, behind `gather`."""
        parts = from_all((lines.sent, lines.received, self.rows({})))
        sent, received = (sum(part[which] for part in parts) for which in (0, 1))
        self.totals = {"messages_sent": sent, "messages_received": received, "messages_lost": sent - received}
        for _, _, rows in parts:
            self.totals |= rows

    def _staleness(self) -> dict[str, float]:
        rows = {}
        for role, histogram in self.histograms().items():
            rows[f"{role}/staleness"] = histogram.mean
            rows[f"{role}/staleness_most"] = float(histogram.most)
            rows |= {f"{role}/staleness_{name}": share for name, share in histogram.shares().items()}
        return rows
