"""How much of a FreqAI backtest got a prediction."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass
class Coverage:
    """How much of what was asked for got a prediction."""

    n_candles: int = 0
    n_predicted: int = 0
    n_windows: int = 0
    n_failed: int = 0
    n_refused: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Coverage) -> None:
        """Count another pair's."""
        for name in ("n_candles", "n_predicted", "n_windows", "n_failed", "n_refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems

    def figures(self) -> dict[str, float]:
        """As metrics."""
        names = ("n_candles", "n_predicted", "n_windows", "n_failed", "n_refused")
        share = self.n_predicted / self.n_candles if self.n_candles else 0.0
        return {"coverage": share} | {name: float(getattr(self, name)) for name in names}

    def __str__(self) -> str:
        share = self.n_predicted / self.n_candles if self.n_candles else 0.0
        return (
            f"predictions for {self.n_predicted:,} of {self.n_candles:,} candles ({share:.1%}); {self.n_windows} "
            f"windows, {self.n_failed} failed and {self.n_refused} refused by the gate"
        )


def say_coverage(coverage: Coverage, what: str, seconds: float | None = None) -> None:
    """Log it, as a warning where windows failed; without `seconds`, at the end, each problem again."""
    say = logger.warning if coverage.n_failed or coverage.n_predicted == 0 else logger.info
    took = "" if seconds is None else f" in {seconds:.1f} s"
    say("%s: %s%s.", what, coverage, took)
    for problem in coverage.problems if seconds is None else ():
        logger.warning("raised exception: %s", problem)
