"""`--freqaimodel MLPipeClassifier`: two or three classes, see docs/freqai.md."""

from freqtrade_mlpipe.integration.freqai import MLPipeFreqaiClassifier


class MLPipeClassifier(MLPipeFreqaiClassifier):
    pass
