"""What runs inside freqtrade: candle loading, the strategy mixin, backtests."""
