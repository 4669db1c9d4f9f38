"""The verdict of the gates: named checks, each with value, threshold and sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

CHAMPION_GATE = "vs champion"


@dataclass(frozen=True)
class Check:
    """One gate's verdict.

    Attributes
    ----------
    name
        The gate's name.
    value
        What was measured, None where the evidence is missing.
    threshold
        The limit, None where there is none to speak of.
    passed
        The verdict.
    sentence
        The verdict for a reader.
    """

    name: str
    value: float | None
    threshold: float | None
    passed: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives back an equal check."""
        return {
            "name": self.name,
            "value": _plain(self.value),
            "threshold": _plain(self.threshold),
            "passed": self.passed,
            "sentence": self.sentence,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Check:
        """Read what `to_dict` gave."""
        return cls(
            name=str(values["name"]),
            value=_number(values["value"]),
            threshold=_number(values["threshold"]),
            passed=values["passed"] is True,
            sentence=str(values["sentence"]),
        )


@dataclass(frozen=True)
class GateReport:
    """All verdicts on one version.

    Attributes
    ----------
    checks
        In the order of the gate table.
    digest
        Digest of the bundle that was judged.
    created_at, expires_at
        UTC.
    window
        Start and end of the final window the backtest ran on (UTC), or None.
    window_uses
        How often versions of the model were judged on that window or a part of it, this time
        included; None where it was not counted.
    champion
        The version that was in production then, or None.
    """

    checks: tuple[Check, ...]
    digest: str
    created_at: datetime
    expires_at: datetime
    window: tuple[datetime, datetime] | None = None
    champion: str | None = None
    window_uses: int | None = None

    @property
    def passed(self) -> bool:
        """Whether there were checks and all of them passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def is_valid(self, now: datetime) -> bool:
        """Whether it passed and has not expired at `now` (time zone aware)."""
        return self.passed and now < self.expires_at

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives back an equal report."""
        return {
            "passed": self.passed,
            "checks": [check.to_dict() for check in self.checks],
            "digest": self.digest,
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "champion": self.champion,
            "window_uses": self.window_uses,
            "window": None if self.window is None else [t.isoformat() for t in self.window],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateReport:
        """Read what `to_dict` gave. The verdict is that of the checks."""
        window, champion = values["window"], values["champion"]
        uses = values.get("window_uses")
        return cls(
            checks=tuple(Check.from_dict(check) for check in values["checks"]),
            digest=str(values["digest"]),
            created_at=datetime.fromisoformat(values["created_at"]),
            expires_at=datetime.fromisoformat(values["expires_at"]),
            champion=None if champion is None else str(champion),
            window_uses=None if uses is None else int(uses),
            window=None
            if window is None
            else (datetime.fromisoformat(window[0]), datetime.fromisoformat(window[1])),
        )


def _plain(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return str(float(value))


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)
