"""The replay exchange: freqtrade runs from recorded candle files, with no network and no account.

`register` makes ``{"exchange": {"name": "replay"}}`` known to ccxt and freqtrade in this process;
`freqtrade_mlpipe.replay.run.main` runs freqtrade's own command line with it registered.

Settings, all in freqtrade's configuration:

``datadir``
    The candle files that markets and candles come from (default ``user_data/data/replay``).
``exchange.replay_source``
    Another directory of candle files to serve from, so that ``download-data`` copies from there
    into ``datadir``. Relative paths are relative to ``user_data_dir``.
"""


def register() -> None:
    """Make the exchange name ``replay`` known to ccxt and freqtrade; a second call changes nothing.

    Call it before freqtrade reads a configuration. Processes that unpickle the exchange (hyperopt's
    workers) register it by importing its module.
    """
    from freqtrade_mlpipe.replay import exchange

    exchange.register()


__all__ = ["register"]
