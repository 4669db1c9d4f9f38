"""Gates on freqtrade's backtest of the final window: untouched, seldom used, good, and no worse than the champion's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.registry.evidence import Evidence
from freqtrade_mlpipe.registry.limits import maximum, minimum, missing
from freqtrade_mlpipe.registry.report import CHAMPION_GATE, Check


def untouched_window(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's window begins after everything the model has seen."""
    gate = "untouched window"
    seen = evidence.trained_until
    start = evidence.backtest.start if evidence.backtest else None
    if seen is None or start is None:
        return [missing(gate, "the window of the backtest or the end of training", None)]
    passed = start > seen
    return [
        Check(
            gate,
            None,
            None,
            passed,
            f"The backtest starts {start:%Y-%m-%d %H:%M}, "
            f"{'after' if passed else 'not after'} the last candle training saw "
            f"({seen:%Y-%m-%d %H:%M} UTC).",
        )
    ]


def window_reuse(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The final window has not chosen among too many versions."""
    limit, uses = config.max_window_uses, evidence.window_uses
    if limit is None:
        return ()
    if uses is None:
        return [missing("window reuse", "how often the final window was used", limit)]
    text = f"The final window, or a part of it, judged {uses} times, at most {limit} allowed."
    return [Check("window reuse", uses, limit, uses <= limit, text)]


def backtest_sharpe(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's Sharpe ratio reaches its minimum."""
    value = evidence.backtest.sharpe if evidence.backtest else None
    return minimum("backtest Sharpe", "Backtest Sharpe ratio", value, config.min_backtest_sharpe)


def backtest_trades(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest made enough trades to say anything."""
    found = evidence.backtest
    value = float(found.n_trades) if found and found.n_trades >= 0 else None
    return minimum("backtest trades", "Backtest trades", value, config.min_backtest_trades)


def profit_factor(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's profit factor reaches its minimum."""
    value = evidence.backtest.profit_factor if evidence.backtest else None
    return minimum("profit factor", "Backtest profit factor", value, config.min_profit_factor)


def drawdown(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's drawdown stays within its limit."""
    value = evidence.backtest.max_drawdown if evidence.backtest else None
    return maximum("max drawdown", "Largest drawdown", value, config.max_drawdown)


def market_excess(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's profit exceeds the market's change by the margin wanted."""
    found = evidence.backtest
    value = found.profit_total - found.market_change if found else None
    return minimum("vs market", "Profit beyond the market's", value, config.min_market_excess)


def champion(evidence: Evidence, config: GateConfig) -> Sequence[Check]:
    """The backtest's Sharpe ratio is not worse than the production version's on the same window."""
    gate, rival, own = CHAMPION_GATE, evidence.champion, evidence.backtest
    if config.champion_tolerance is None:
        return ()
    if rival is None and evidence.champion_version is not None:
        return [
            missing(
                gate, f"the backtest of the champion, version {evidence.champion_version}", None
            )
        ]
    if rival is None:
        return [Check(gate, None, None, True, "Nothing is in production: no champion to beat.")]
    limit = rival.sharpe - config.champion_tolerance
    if own is None or not math.isfinite(own.sharpe) or not math.isfinite(rival.sharpe):
        return [missing(gate, "a finite Sharpe ratio of both backtests", limit)]
    if own.start is None or (own.start, own.end) != (rival.start, rival.end):
        return [missing(gate, "the champion's backtest on the same window", limit)]
    passed = own.sharpe >= limit
    return [
        Check(
            gate,
            own.sharpe,
            limit,
            passed,
            f"Backtest Sharpe ratio {own.sharpe:.3g} against the champion's {rival.sharpe:.3g} on "
            f"the same window, at least {limit:.3g} wanted.",
        )
    ]
