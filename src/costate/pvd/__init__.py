"""Parallel variable distribution: minimises f over x ∈ Rⁿ in p blocks (Ferris & Mangasarian, 1994; Solodov, 1997).

An outer iteration, from x with directions d:

1. Parallelisation: worker l minimises f over its own block and over μ, one number for each other block k, which may
   move along d_k alone (the forget-me-not terms).
2. Synchronisation: the new x minimises f over the affine hull of the old one and of the workers' results.

Both are inexact, and neither ends above what it began with. Pure mathematics: no network, no process in sight.
"""

from costate.pvd.distribution import Distribution, InTurn, Outcome, Result, Start, Team
from costate.pvd.objective import Blocks, Objective, Solver

__all__ = ["Blocks", "Distribution", "InTurn", "Objective", "Outcome", "Result", "Solver", "Start", "Team"]
