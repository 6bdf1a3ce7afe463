"""Which rank plays which role: K stages, and the oracle that holds the synthesizers of the boundaries between them.

Rank r holds stage K − 1 − r, so that rank 0, which has the screen and the log, has the loss. A dedicated oracle is one
rank more, K; a colocated one lives in parts, the synthesizer of each boundary with the stage behind it.

    K = 2        input half   output half   oracle
    dedicated    rank 1       rank 0        rank 2
    colocated    rank 1       rank 0        rank 0
"""

from dataclasses import dataclass
from typing import Literal, final


@final
@dataclass(frozen=True)
class Roles:
    """Places of K stages and an oracle.

    Attributes:
        stages: K.
    """

    stages: int
    oracle: Literal["dedicated", "colocated"]

    @property
    def ranks(self) -> int:
        return self.stages + (self.oracle == "dedicated")

    def stage_of(self, rank: int) -> int | None:
        """The stage that a rank holds; None for a dedicated oracle."""
        return self.stages - 1 - rank if rank < self.stages else None

    def rank_of(self, stage: int) -> int:
        return self.stages - 1 - stage

    def oracle_of(self, boundary: int) -> int:
        """The rank that holds the synthesizer behind a stage."""
        return self.stages if self.oracle == "dedicated" else self.rank_of(boundary + 1)

    def boundaries_of(self, rank: int) -> list[int]:
        """The boundaries whose synthesizers a rank holds."""
        return [k for k in range(self.stages - 1) if self.oracle_of(k) == rank]

    def name_of(self, rank: int) -> str:
        """As people read it."""
        k = self.stage_of(rank)
        return "oracle" if k is None else f"stage {k}"
