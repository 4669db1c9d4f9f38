"""The replay exchange: freqtrade runs from recorded candle files, with no network and no account.

`register` makes ``{"exchange": {"name": "replay"}}`` known to ccxt and freqtrade in this process;
`freqtrade_mlpipe.replay.run.main` runs freqtrade's own command line with it registered;
`freqtrade_mlpipe.replay.server` serves the same market to the unmodified freqtrade.

Backtests and downloads see the recording as it is, dry-run trading a live clock that plays it over
and over (`freqtrade_mlpipe.replay.tape`). The candle files are those of ``datadir``; the keys of
the ``exchange`` block are described at `freqtrade_mlpipe.config.ReplayConfig`.
"""


def register() -> None:
    """Make the exchange name ``replay`` known to ccxt and freqtrade; a second call changes nothing.

    Call it before freqtrade reads a configuration. Processes that unpickle the exchange (hyperopt's
    workers) register it by importing its module.
    """
    from freqtrade_mlpipe.replay import exchange

    exchange.register()


__all__ = ["register"]
