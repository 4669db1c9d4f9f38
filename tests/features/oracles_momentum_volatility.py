"""Second implementations of the momentum and volatility rows, in plain pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.features.oracles_price_volume import Oracle, log_return, rank, true_range, typical


def ema(values: pd.Series, n: int) -> pd.Series:
    return values.ewm(span=n, adjust=False).mean()


def wilder(values: pd.Series, n: int) -> pd.Series:
    return values.ewm(alpha=1 / n, adjust=False).mean()


def rsi(df: pd.DataFrame, n: int) -> pd.Series:
    step = df.close.diff().fillna(0.0)
    return 100 * wilder(step.clip(lower=0), n) / wilder(step.abs(), n)


def macd(df: pd.DataFrame, fast: int, slow: int) -> pd.Series:
    return ema(df.close, fast) - ema(df.close, slow)


def fast_k(df: pd.DataFrame, n: int) -> pd.Series:
    low = df.low.rolling(n).min()
    return 100 * (df.close - low) / (df.high.rolling(n).max() - low)


def stochastic_rsi(df: pd.DataFrame, n: int, smooth: int) -> pd.Series:
    window = rsi(df, n).rolling(n)
    return (
        (100 * (rsi(df, n) - window.min()) / (window.max() - window.min())).rolling(smooth).mean()
    )


def cci(df: pd.DataFrame, n: int) -> pd.Series:
    price = typical(df)
    deviation = price.rolling(n).apply(lambda w: np.mean(np.abs(w - w.mean())), raw=True)
    return (price - price.rolling(n).mean()) / (0.015 * deviation)


def ultimate(df: pd.DataFrame, *periods: int) -> pd.Series:
    low = pd.concat([df.low, df.close.shift()], axis=1).min(axis=1)
    average = [(df.close - low).rolling(n).sum() / true_range(df).rolling(n).sum() for n in periods]
    return 100 * (4 * average[0] + 2 * average[1] + average[2]) / 7


def tsi(df: pd.DataFrame, slow: int, fast: int) -> pd.Series:
    step = df.close.diff().fillna(0.0)
    return 100 * ema(ema(step, slow), fast) / ema(ema(step.abs(), slow), fast)


def gains_balance(step: pd.Series, n: int) -> pd.Series:
    up, down = step.clip(lower=0).rolling(n).sum(), (-step).clip(lower=0).rolling(n).sum()
    return 100 * (up - down) / (up + down)


def trix(df: pd.DataFrame, n: int) -> pd.Series:
    return 100 * ema(ema(ema(df.close, n), n), n).pct_change()


def vigor(df: pd.DataFrame, n: int) -> pd.Series:
    def weighted(values: pd.Series) -> pd.Series:
        total = (values + 2 * values.shift(1) + 2 * values.shift(2) + values.shift(3)) / 6
        return total.rolling(n).mean()

    return weighted(df.close - df.open) / weighted(df.high - df.low)


def weighted_mean(values: pd.Series, n: int) -> pd.Series:
    weight = np.arange(1, n + 1)
    return values.rolling(n).apply(lambda w: float(w @ weight / weight.sum()), raw=True)


def coppock(df: pd.DataFrame, long: int, short: int, smooth: int) -> pd.Series:
    return weighted_mean(100 * (df.close.pct_change(long) + df.close.pct_change(short)), smooth)


def kst(df: pd.DataFrame) -> pd.Series:
    parts = [(1, 10, 10), (2, 15, 10), (3, 20, 10), (4, 30, 15)]
    return sum(w * 100 * df.close.pct_change(n).rolling(m).mean() for w, n, m in parts)


def stochastic_momentum(df: pd.DataFrame, n: int, smooth: int) -> pd.Series:
    high, low = df.high.rolling(n).max(), df.low.rolling(n).min()
    away = (df.close - (high + low) / 2).rolling(smooth).mean()
    return 100 * away / ((high - low) / 2).rolling(smooth).mean()


MOMENTUM: dict[str, Oracle] = {
    "rsi": rsi,
    "rsi_change": lambda df, n: rsi(df, n).diff(n),
    "macd": lambda df, fast, slow: macd(df, fast, slow) / df.close,
    "macd_signal": lambda df, fast, slow, n: ema(macd(df, fast, slow), n) / df.close,
    "macd_histogram": lambda df, fast, slow, n: (
        (macd(df, fast, slow) - ema(macd(df, fast, slow), n)) / df.close
    ),
    "stochastic_k": lambda df, n, k: fast_k(df, n).rolling(k).mean(),
    "stochastic_d": lambda df, n, k, d: fast_k(df, n).rolling(k).mean().rolling(d).mean(),
    "stochastic_rsi_k": stochastic_rsi,
    "stochastic_rsi_d": lambda df, n, k, d: stochastic_rsi(df, n, k).rolling(d).mean(),
    "roc": lambda df, n: 100 * df.close.pct_change(n),
    "cci": cci,
    "williams_r": lambda df, n: fast_k(df, n) - 100,
    "ultimate_oscillator": ultimate,
    "tsi": tsi,
    "cmo": lambda df, n: gains_balance(df.close.diff(), n),
    "intraday_momentum": lambda df, n: 50 + gains_balance(df.close - df.open, n) / 2,
    "momentum_atr": lambda df, n: df.close.diff(n) / true_range(df).rolling(n).mean(),
    "awesome_oscillator": lambda df, n, m: (
        (((df.high + df.low) / 2).rolling(n).mean() - ((df.high + df.low) / 2).rolling(m).mean())
        / df.close
    ),
    "trix": trix,
    "balance_of_power": lambda df, n: ((df.close - df.open) / (df.high - df.low)).rolling(n).mean(),
    "relative_vigor": vigor,
    "coppock": coppock,
    "know_sure_thing": kst,
    "detrended_price": lambda df, n: (
        (df.close.shift(n // 2 + 1) - df.close.rolling(n).mean()) / df.close
    ),
    "bull_power": lambda df, n: (df.high - ema(df.close, n)) / df.close,
    "bear_power": lambda df, n: (df.low - ema(df.close, n)) / df.close,
    "return_rank": lambda df, n: rank(log_return(df), n),
    "qstick": lambda df, n: (df.close - df.open).rolling(n).mean() / df.close,
    "stochastic_momentum": stochastic_momentum,
}


def deviation(df: pd.DataFrame, n: int) -> pd.Series:
    return log_return(df).rolling(n).std(ddof=0)


def parkinson(df: pd.DataFrame, n: int) -> pd.Series:
    return ((np.log(df.high / df.low) ** 2).rolling(n).sum() / (4 * n * np.log(2))) ** 0.5


def garman_klass(df: pd.DataFrame, n: int) -> pd.Series:
    h, low, c = (np.log(df[k] / df.open) for k in ("high", "low", "close"))
    return (0.5 * (h - low) ** 2 - (2 * np.log(2) - 1) * c**2).rolling(n).mean() ** 0.5


def rogers_satchell(df: pd.DataFrame, n: int) -> pd.Series:
    term = np.log(df.high / df.close) * np.log(df.high / df.open)
    return (term + np.log(df.low / df.close) * np.log(df.low / df.open)).rolling(n).mean()


def yang_zhang(df: pd.DataFrame, n: int) -> pd.Series:
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    overnight = np.log(df.open / df.close.shift()).rolling(n).var(ddof=1)
    body = np.log(df.close / df.open).rolling(n).var(ddof=1)
    return (overnight + k * body + (1 - k) * rogers_satchell(df, n)) ** 0.5


def band(df: pd.DataFrame, n: int, sign: int) -> pd.Series:
    return df.close.rolling(n).mean() + sign * 2 * df.close.rolling(n).std(ddof=0)


def channel(df: pd.DataFrame, n: int, m: int, sign: int) -> pd.Series:
    return ema(df.close, n) + sign * 2 * true_range(df).rolling(m).mean()


def downside_share(df: pd.DataFrame, n: int) -> pd.Series:
    square = log_return(df) ** 2
    return square.where(log_return(df) < 0, 0.0).rolling(n).sum() / square.rolling(n).sum()


def jump_share(df: pd.DataFrame, n: int) -> pd.Series:
    size = log_return(df).abs()
    return 1 - np.pi / 2 * (size * size.shift()).rolling(n).sum() / (size**2).rolling(n).sum()


def max_drawdown(df: pd.DataFrame, n: int) -> pd.Series:
    return df.close.rolling(n).apply(
        lambda w: float(np.max(1 - w / np.maximum.accumulate(w))), raw=True
    )


def mass_index(df: pd.DataFrame, smooth: int, n: int) -> pd.Series:
    single = ema(df.high - df.low, smooth)
    return (single / ema(single, smooth)).rolling(n).sum()


def chaikin_volatility(df: pd.DataFrame, n: int) -> pd.Series:
    span = (df.high - df.low).rolling(n).mean()
    return (span - span.shift(n)) / (span + span.shift(n))


def choppiness(df: pd.DataFrame, n: int) -> pd.Series:
    width = df.high.rolling(n).max() - df.low.rolling(n).min()
    return 100 * np.log10(true_range(df).rolling(n).sum() / width) / np.log10(n)


def relative_volatility(df: pd.DataFrame, n: int, m: int) -> pd.Series:
    spread, step = df.close.rolling(m).std(ddof=0), df.close.diff()
    up, down = (spread.where(s * step > 0, 0.0).rolling(n).sum() for s in (1, -1))
    return 100 * up / (up + down)


def mean_range(df: pd.DataFrame, n: int) -> pd.Series:
    return true_range(df).rolling(n).mean()


VOLATILITY: dict[str, Oracle] = {
    "atr": lambda df, n: wilder(true_range(df).fillna(0.0), n) / df.close,
    "true_range_ratio": lambda df, n: true_range(df) / mean_range(df, n),
    "range_trend": lambda df, n, m: mean_range(df, n) / mean_range(df, m),
    "bollinger_width": lambda df, n: (
        (band(df, n, 1) - band(df, n, -1)) / df.close.rolling(n).mean()
    ),
    "bollinger_position": lambda df, n: (
        (df.close - band(df, n, -1)) / (band(df, n, 1) - band(df, n, -1))
    ),
    "keltner_width": lambda df, n, m: (
        (channel(df, n, m, 1) - channel(df, n, m, -1)) / ema(df.close, n)
    ),
    "keltner_position": lambda df, n, m: (
        (df.close - channel(df, n, m, -1)) / (channel(df, n, m, 1) - channel(df, n, m, -1))
    ),
    "squeeze": lambda df, n: df.close.rolling(n).std(ddof=0) / mean_range(df, n),
    "volatility": deviation,
    "parkinson": parkinson,
    "garman_klass": garman_klass,
    "rogers_satchell": lambda df, n: rogers_satchell(df, n) ** 0.5,
    "yang_zhang": yang_zhang,
    "ewma_volatility": lambda df, n: ema(log_return(df).fillna(0.0) ** 2, n) ** 0.5,
    "volatility_ratio": lambda df, n, m: deviation(df, n) / deviation(df, m),
    "volatility_of_volatility": lambda df, n, m: (
        deviation(df, n).rolling(m).std(ddof=0) / deviation(df, n).rolling(m).mean()
    ),
    "volatility_rank": lambda df, n, m: rank(deviation(df, n), m),
    "range_to_close": lambda df, n: parkinson(df, n) / deviation(df, n),
    "downside_deviation": lambda df, n: (
        (log_return(df).clip(upper=0) ** 2).rolling(n).mean() ** 0.5
    ),
    "downside_share": downside_share,
    "jump_share": jump_share,
    "ulcer_index": lambda df, n: (
        ((df.close / df.close.rolling(n).max() - 1) ** 2).rolling(n).mean() ** 0.5
    ),
    "max_drawdown": max_drawdown,
    "mass_index": mass_index,
    "chaikin_volatility": chaikin_volatility,
    "choppiness": choppiness,
    "relative_volatility": relative_volatility,
}
