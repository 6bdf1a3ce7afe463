"""What is searched, in Hydra's own words for sweeps, and how Optuna draws from it.

choice(a, b, c), a,b,c      one of them
interval(a, b)              a number between
tag(log, interval(a, b))    the same, evenly in its logarithm
range(a, b, step)           an integer from a to below b
tag(log, range(a, b))       the same, evenly in its logarithm
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


class Space:
    """The settings that are searched, and those that stay.

    Args:
        words: overrides as train.py takes them.

    Raises:
        ValueError: a word is no override, a sweep is of a kind that cannot be searched, or nothing is searched.
    """

    def __init__(self, words: Sequence[str]):
        try:
            overrides = OverridesParser.create().parse_overrides(list(words))
        except HydraException as error:
            raise ValueError(str(error).splitlines()[0]) from error
        self.fixed = [o.input_line or "" for o in overrides if not o.is_sweep_override()]
        self.searched: dict[str, BaseDistribution] = {
            o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()
        }
        if not self.searched:
            raise ValueError(
                "There is nothing to search: give a setting as optimizer.lr=interval(0.001,0.01) or a,b,c."
            )

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """What train.py is told for one trial."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws a setting from."""
    sweep, key = override.value(), override.get_key_element()
    tags = set(getattr(sweep, "tags", ()))
    if tags - {"log"}:
        raise ValueError(f"{key}: tag {', '.join(sorted(tags - {'log'}))} is not known; there is log.")
    try:
        if isinstance(sweep, ChoiceSweep):
            return CategoricalDistribution([str(choice) for choice in override.sweep_string_iterator()])
        if isinstance(sweep, IntervalSweep):
            low, high = (float(number or 0) for number in (sweep.start, sweep.end))
            return FloatDistribution(low, high, log="log" in tags)
        if isinstance(sweep, RangeSweep):
            start, stop, step = (int(number or 0) for number in (sweep.start, sweep.stop, sweep.step))
            last = start + (stop - 1 - start) // step * step
            return IntDistribution(start, last, log="log" in tags, step=1 if "log" in tags else step)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    raise ValueError(f"{key}: {override.input_line} cannot be searched; there are choice, interval and range.")
