"""Features: a catalogue of causal, scale-free indicators and the transformers fitted on training
rows."""

from freqtrade_mlpipe.features.candles import GapSummary, summarise_gaps, validate_candles
from freqtrade_mlpipe.features.catalogue import CATALOGUE
from freqtrade_mlpipe.features.engineer import FeatureEngineer
from freqtrade_mlpipe.features.frames import NO_FRAMES, FrameKey, Frames
from freqtrade_mlpipe.features.indicator import Indicator
from freqtrade_mlpipe.features.preprocessing import Preprocessor

__all__ = [
    "CATALOGUE",
    "NO_FRAMES",
    "FeatureEngineer",
    "FrameKey",
    "Frames",
    "GapSummary",
    "Indicator",
    "Preprocessor",
    "summarise_gaps",
    "validate_candles",
]
