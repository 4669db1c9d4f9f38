"""Features: a catalogue of causal, scale-free indicators and the transformers fitted on training
rows."""

from freqtrade_mlpipe.features.candles import GapSummary, summarise_gaps, validate_candles
from freqtrade_mlpipe.features.catalogue import CATALOGUE
from freqtrade_mlpipe.features.engineer import FeatureEngineer
from freqtrade_mlpipe.features.frames import NO_FRAMES, FrameKey, Frames, LiveFrames
from freqtrade_mlpipe.features.indicator import Indicator
from freqtrade_mlpipe.features.live import LiveBlock
from freqtrade_mlpipe.features.preprocessing import Preprocessor
from freqtrade_mlpipe.features.stream import FeatureStream

__all__ = [
    "CATALOGUE",
    "NO_FRAMES",
    "FeatureEngineer",
    "FeatureStream",
    "FrameKey",
    "Frames",
    "GapSummary",
    "Indicator",
    "LiveBlock",
    "LiveFrames",
    "Preprocessor",
    "summarise_gaps",
    "validate_candles",
]
