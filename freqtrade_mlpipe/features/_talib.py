"""TA-Lib's functions as kernels: whole arrays by the function, candle by candle by a handle of `talib.stream`.

Handles came with TA-Lib 0.8. With an older one a stream computes the columns that need them anew for each candle.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import talib
import talib.stream

from freqtrade_mlpipe.features._trace import FloatArray, Kernel

_HAS_HANDLES = hasattr(talib.stream, "Stream")


def _kernel(name: str, n_arrays: int, n_outputs: int = 0) -> Kernel[Any]:
    def open_handle(*arguments: Any) -> tuple[Any, Callable[..., Any]]:
        handle, values = getattr(talib.stream, name).open_and_fill(*arguments)
        return values, handle.update

    # TA-Lib's own function, without the wrapper that looks for Series: it costs as much as 300 candles.
    batch = inspect.unwrap(getattr(talib, name))
    carried = open_handle if _HAS_HANDLES else None
    return Kernel(f"talib.{name}", n_arrays, batch, carried, n_outputs=n_outputs)


AROON: Kernel[tuple[FloatArray, FloatArray]] = _kernel("AROON", 2, 2)
AROONOSC: Kernel[FloatArray] = _kernel("AROONOSC", 2)
ATR: Kernel[FloatArray] = _kernel("ATR", 3)
CCI: Kernel[FloatArray] = _kernel("CCI", 3)
DEMA: Kernel[FloatArray] = _kernel("DEMA", 1)
EMA: Kernel[FloatArray] = _kernel("EMA", 1)
MAX: Kernel[FloatArray] = _kernel("MAX", 1)
MIN: Kernel[FloatArray] = _kernel("MIN", 1)
ROC: Kernel[FloatArray] = _kernel("ROC", 1)
RSI: Kernel[FloatArray] = _kernel("RSI", 1)
SAR: Kernel[FloatArray] = _kernel("SAR", 2)
TEMA: Kernel[FloatArray] = _kernel("TEMA", 1)
TRIX: Kernel[FloatArray] = _kernel("TRIX", 1)
WMA: Kernel[FloatArray] = _kernel("WMA", 1)
