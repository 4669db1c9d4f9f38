"""`--freqaimodel MLPipeRegressor`: numbers such as returns, see docs/freqai.md."""

from freqtrade_mlpipe.integration.freqai import MLPipeFreqaiRegressor


class MLPipeRegressor(MLPipeFreqaiRegressor):
    pass
