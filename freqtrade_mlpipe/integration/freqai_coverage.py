"""How much of a FreqAI backtest got a prediction."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

_COUNTS = ("n_candles", "n_predicted", "n_windows", "n_failed", "n_refused")


@dataclass
class Coverage:
    """How much of what was asked for got a prediction."""

    n_candles: int = 0
    n_predicted: int = 0
    n_windows: int = 0
    n_failed: int = 0
    n_refused: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the candles that got a prediction."""
        return self.n_predicted / self.n_candles if self.n_candles else 0.0

    def add(self, other: Coverage) -> None:
        """Count another pair's."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems

    def figures(self) -> dict[str, float]:
        """As metrics."""
        return {"coverage": self.share} | {name: float(getattr(self, name)) for name in _COUNTS}

    def __str__(self) -> str:
        return (
            f"predictions for {self.n_predicted:,} of {self.n_candles:,} candles ({self.share:.1%}); {self.n_windows} "
            f"windows, {self.n_failed} failed and {self.n_refused} refused by the gate"
        )


def say_coverage(coverage: Coverage, what: str, seconds: float | None = None) -> None:
    """Log it, as a warning where windows failed; without `seconds`, at the end, each problem again."""
    say = logger.warning if coverage.n_failed or coverage.n_predicted == 0 else logger.info
    took = "" if seconds is None else f" in {seconds:.1f} s"
    say("%s: %s%s.", what, coverage, took)
    for problem in coverage.problems if seconds is None else ():
        logger.warning("raised exception: %s", problem)
