"""What the commands about live predictions share: the bot's journal, the versions that spoke, the candles since."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqtrade_mlpipe.commands.context import Context
from freqtrade_mlpipe.exceptions import DataError
from freqtrade_mlpipe.registry.names import pair_model_name

if TYPE_CHECKING:
    from freqtrade_mlpipe.integration.data import CandleSource
    from freqtrade_mlpipe.monitoring.journal import LiveJournal
    from freqtrade_mlpipe.registry.bundle import Bundle


def open_journal(context: Context, given: str | None) -> LiveJournal:
    """The journal named on the command line, else that of the configuration's `bot_name`.

    Raises
    ------
    DataError
        It does not exist; the message names those there are.
    """
    from freqtrade_mlpipe.monitoring.journal import LiveJournal, journal_path

    path = Path(given) if given else journal_path(
        context.mlpipe.registry.directory, context.freqtrade.get("bot_name")
    )  # fmt: skip
    if not path.is_file():
        others = sorted(str(one) for one in path.parent.glob("*.sqlite"))
        hint = (
            f"Name one with --db: {', '.join(others)}."
            if others
            else "A bot that trades with MLPipeMixin writes it."
        )
        raise DataError(f"No live predictions: there is no file {path}. {hint}")
    return LiveJournal(path)


def bundle_that_spoke(context: Context, version: str, digest: str) -> Bundle:
    """The bundle behind journalled predictions: from the bot's cache, else from the registry.

    Raises
    ------
    MLPipeError
        It is in neither, or another bundle has its version number.
    """
    from freqtrade_mlpipe.integration.serving import cache_of
    from freqtrade_mlpipe.registry.cache import ResolvedVersion

    cache = cache_of(context.mlpipe)
    name = context.mlpipe.model_name
    return cache.load(ResolvedVersion(name, version, digest, cache.path_of(digest)))


def of_own_pair(context: Context, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the pair whose own model is the configured one (`scope: per_pair`); all rows where it is no pair's."""
    own = [
        pair
        for pair in rows["pair"].unique()
        if context.mlpipe.model_name.endswith(pair_model_name("", str(pair)))
    ]
    return rows[rows["pair"].isin(own)] if own else rows


def newest_speaker(rows: pd.DataFrame) -> tuple[str, str]:
    """Version and digest behind the newest rows of a journal.

    Raises
    ------
    DataError
        There are no rows.
    """
    if rows.empty:
        raise DataError("The journal holds no predictions of this kind yet.")
    last = rows.iloc[-1]
    return str(last["version"]), str(last["digest"])


def candle_source(context: Context, timeframe: str | None) -> CandleSource:
    """Candle files of a model's timeframe."""
    from freqtrade_mlpipe.integration.data import CandleSource

    wanted: dict[str, Any] = {**context.freqtrade, "timeframe": timeframe}
    return CandleSource.from_config(wanted)


def candles_at_hand(source: CandleSource, pairs: Iterable[str]) -> dict[str, pd.DataFrame]:
    """All candles of the pairs that have a usable file."""
    from freqtrade_mlpipe.integration.data import load_candles

    found: dict[str, pd.DataFrame] = {}
    for pair in pairs:
        try:
            found |= load_candles(source, [pair], None, startup_candles=0)
        except DataError:
            continue
    return found


def not_downloaded(rows: pd.DataFrame, candles: dict[str, pd.DataFrame]) -> str:
    """A sentence about rows whose candles are not in the files yet; empty when all are."""
    last = {pair: frame["date"].iloc[-1] for pair, frame in candles.items()}
    newest_rows = {str(pair): part["date"].max() for pair, part in rows.groupby("pair")}
    late = [
        (pair, date) for pair, date in newest_rows.items() if pair not in last or date > last[pair]
    ]
    if not late:
        return ""
    shown = ", ".join(
        f"{pair} (until {last[pair]:%Y-%m-%d %H:%M})" if pair in last else f"{pair} (no file)"
        for pair, _ in late[:5]
    )
    more = f" and {len(late) - 5} more" if len(late) > 5 else ""
    newest = max(date for _, date in late)
    return (
        f"Candles are not downloaded yet up to {newest:%Y-%m-%d %H:%M} UTC: {shown}{more}. Run "
        "`freqtrade download-data` with the bot's configuration, then this again."
    )
