"""Second implementations of the price, volume and time rows, in plain pandas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Oracle = Callable[..., pd.Series]


def location(df: pd.DataFrame) -> pd.Series:
    width = df.high - df.low
    return (((df.close - df.low) - (df.high - df.close)) / width).where(width > 0, 0.0)


def typical(df: pd.DataFrame) -> pd.Series:
    return df[["high", "low", "close"]].mean(axis=1)


def log_return(df: pd.DataFrame) -> pd.Series:
    return np.log(df.close).diff()


def true_range(df: pd.DataFrame) -> pd.Series:
    before = df.close.shift()
    parts = [df.high - df.low, (df.high - before).abs(), (df.low - before).abs()]
    return pd.concat(parts, axis=1).max(axis=1, skipna=False)


def streak(df: pd.DataFrame, n: int) -> pd.Series:
    run, values = 0, []
    for step in df.close.diff():
        sign = int(np.sign(step)) if step == step else 0
        run = run + sign if sign and np.sign(run) == sign else sign
        values.append(max(-n, min(n, run)) / n)
    return pd.Series(values, df.index)


def overlap(df: pd.DataFrame) -> pd.Series:
    high, low = df.high.shift(), df.low.shift()
    union = np.maximum(df.high, high) - np.minimum(df.low, low)
    return (np.minimum(df.high, high) - np.maximum(df.low, low)) / union


def rolling_share(part: pd.Series, whole: pd.Series, n: int) -> pd.Series:
    return part.rolling(n).sum() / whole.rolling(n).sum()


def rank(values: pd.Series, n: int) -> pd.Series:
    def place(window: np.ndarray) -> float:
        before, now = window[:-1], window[-1]
        return float(np.mean((before < now) + 0.5 * (before == now)))

    return values.rolling(n).apply(place, raw=True)


def mfi(df: pd.DataFrame, n: int) -> pd.Series:
    price = typical(df)
    flow = price * df.volume
    up = flow.where(price.diff() > 0, 0.0).rolling(n).sum()
    down = flow.where(price.diff() < 0, 0.0).rolling(n).sum()
    return 100 - 100 / (1 + up / down)


def vwap_distance(df: pd.DataFrame, n: int) -> pd.Series:
    return df.close / rolling_share(typical(df) * df.volume, df.volume, n) - 1


def slope(values: pd.Series, n: int) -> pd.Series:
    time = np.arange(n)
    return values.rolling(n).apply(lambda window: np.polyfit(time, window, 1)[0], raw=True)


def volume_change(df: pd.DataFrame, n: int) -> pd.Series:
    return np.tanh(np.log(df.volume / df.volume.shift(n)) / 2)


def ease_of_movement(df: pd.DataFrame, n: int, m: int) -> pd.Series:
    middle = (df.high + df.low) / 2
    move = middle.pct_change() * (df.high - df.low) / df.close
    relative = df.volume.rolling(n).sum() / df.volume.rolling(m).mean()
    return move.rolling(n).sum() / relative


def effort_result(df: pd.DataFrame, n: int) -> pd.Series:
    effort = df.volume / df.volume.rolling(n).mean()
    result = true_range(df) / true_range(df).rolling(n).mean()
    return (effort - result) / (effort + result)


def on_side(df: pd.DataFrame, n: int, side: int) -> pd.Series:
    return log_return(df).where(side * df.volume.diff() > 0, 0.0).rolling(n).sum()


def signed_volume(df: pd.DataFrame) -> pd.Series:
    return np.sign(df.close.diff()) * df.volume


def session(start: int, end: int) -> Oracle:
    return lambda df: ((df.date.dt.hour >= start) & (df.date.dt.hour < end)).astype(float)


def circle(
    function: Callable[[pd.Series], pd.Series], part: Callable[[pd.Series], pd.Series]
) -> Oracle:
    return lambda df: function(2 * np.pi * part(df.date))


def day_fraction(date: pd.Series) -> pd.Series:
    return date.dt.hour / 24 + date.dt.minute / 1440


PRICE: dict[str, Oracle] = {
    "return": lambda df, n: df.close.pct_change(n),
    "log_return": lambda df, n: np.log(df.close).diff(n),
    "acceleration": lambda df, n: np.log(df.close).diff(n) - np.log(df.close).diff(n).shift(n),
    "gap": lambda df: df.open / df.close.shift() - 1,
    "intraday_return": lambda df: (df.close - df.open) / df.open,
    "body_fraction": lambda df: (df.close - df.open) / (df.high - df.low),
    "upper_shadow": lambda df: (df.high - df[["open", "close"]].max(axis=1)) / (df.high - df.low),
    "lower_shadow": lambda df: (df[["open", "close"]].min(axis=1) - df.low) / (df.high - df.low),
    "close_location": location,
    "candle_range": lambda df: (df.high - df.low) / df.close,
    "true_range": lambda df: true_range(df) / df.close,
    "range_overlap": overlap,
    "range_position": lambda df, n: (
        (df.close - df.low.rolling(n).min()) / (df.high.rolling(n).max() - df.low.rolling(n).min())
    ),
    "range_width": lambda df, n: (df.high.rolling(n).max() - df.low.rolling(n).min()) / df.close,
    "high_distance": lambda df, n: df.close / df.high.rolling(n).max() - 1,
    "low_distance": lambda df, n: df.close / df.low.rolling(n).min() - 1,
    "z_score": lambda df, n: (
        (df.close - df.close.rolling(n).mean()) / df.close.rolling(n).std(ddof=0)
    ),
    "up_share": lambda df, n: (df.close.diff() > 0).rolling(n).mean(),
    "streak": streak,
}

VOLUME: dict[str, Oracle] = {
    "volume_change": volume_change,
    "volume_ratio": lambda df, n: df.volume / df.volume.rolling(n).mean(),
    "volume_z_score": lambda df, n: (
        (df.volume - df.volume.rolling(n).mean()) / df.volume.rolling(n).std(ddof=0)
    ),
    "volume_variation": lambda df, n: (
        df.volume.rolling(n).std(ddof=0) / df.volume.rolling(n).mean()
    ),
    "volume_trend": lambda df, n, m: df.volume.rolling(n).mean() / df.volume.rolling(m).mean(),
    "volume_slope": lambda df, n: slope(df.volume, n) / df.volume.rolling(n).mean(),
    "volume_rank": lambda df, n: rank(df.volume, n),
    "volume_concentration": lambda df, n: df.volume.rolling(n).max() / df.volume.rolling(n).sum(),
    "vwap_distance": vwap_distance,
    "obv_slope": lambda df, n: (
        signed_volume(df).fillna(0.0).cumsum().diff(n) / df.volume.rolling(n).sum()
    ),
    "mfi": mfi,
    "cmf": lambda df, n: rolling_share(location(df) * df.volume, df.volume, n),
    "chaikin_oscillator": lambda df, n, m: (
        rolling_share(location(df) * df.volume, df.volume, n)
        - rolling_share(location(df) * df.volume, df.volume, m)
    ),
    "force_index": lambda df, n: rolling_share(log_return(df) * df.volume, df.volume, n),
    "ease_of_movement": ease_of_movement,
    "up_volume": lambda df, n: rolling_share(
        df.volume.where(df.close > df.open, 0.0), df.volume, n
    ),
    "return_volume_correlation": lambda df, n: log_return(df).rolling(n).corr(volume_change(df, 1)),
    "range_volume_correlation": lambda df, n: (
        (true_range(df) / df.close).rolling(n).corr(df.volume)
    ),
    "negative_volume_return": lambda df, n: on_side(df, n, -1),
    "positive_volume_return": lambda df, n: on_side(df, n, 1),
    "effort_result": effort_result,
    "zero_volume_share": lambda df, n: (df.volume == 0).rolling(n).mean(),
}

TIME: dict[str, Oracle] = {
    "hour_sin": circle(np.sin, day_fraction),
    "hour_cos": circle(np.cos, day_fraction),
    "weekday_sin": circle(np.sin, lambda date: date.dt.day_of_week / 7),
    "weekday_cos": circle(np.cos, lambda date: date.dt.day_of_week / 7),
    "day_sin": circle(np.sin, lambda date: (date.dt.day - 1) / 31),
    "day_cos": circle(np.cos, lambda date: (date.dt.day - 1) / 31),
    "month_sin": circle(np.sin, lambda date: (date.dt.month - 1) / 12),
    "month_cos": circle(np.cos, lambda date: (date.dt.month - 1) / 12),
    "asia_session": session(0, 9),
    "europe_session": session(7, 16),
    "us_session": session(13, 21),
    "weekend": lambda df: df.date.dt.day_of_week.isin([5, 6]).astype(float),
}
