"""Second implementations of the trend and statistics rows, in plain pandas and loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from tests.features.oracles_momentum_volatility import deviation, ema, weighted_mean, wilder
from tests.features.oracles_price_volume import Oracle, log_return, signed_volume, slope, true_range


def kama_distance(df: pd.DataFrame, n: int, window: int) -> pd.Series:
    close = df.close.to_numpy()
    path = df.close.diff().abs().rolling(n).sum()
    weight = ((df.close.diff(n).abs() / path) * (2 / 3 - 2 / 31) + 2 / 31).to_numpy() ** 2
    result = np.full(len(df), np.nan)
    for row in range(n + window, len(df)):
        average = close[row - window]
        for step in range(row - window + 1, row + 1):
            average += weight[step] * (close[step] - average)
        result[row] = close[row] / average - 1
    return pd.Series(result, df.index)


def directional(df: pd.DataFrame, n: int) -> tuple[pd.Series, pd.Series]:
    up, down = df.high.diff(), -df.low.diff()
    plus = up.where((up > down) & (up > 0), 0.0)
    minus = down.where((down > up) & (down > 0), 0.0)
    reach = wilder(true_range(df).fillna(0.0), n)
    return 100 * wilder(plus, n) / reach, 100 * wilder(minus, n) / reach


def di_balance(df: pd.DataFrame, n: int) -> pd.Series:
    plus, minus = directional(df, n)
    return (plus - minus) / (plus + minus)


def adx(df: pd.DataFrame, n: int) -> pd.Series:
    return wilder(100 * di_balance(df, n).abs().fillna(0.0), n)


def aroon(values: pd.Series, n: int) -> pd.Series:
    return values.rolling(n + 1).apply(lambda w: 100 * (n - np.argmax(w[::-1])) / n, raw=True)


def psar_distance(df: pd.DataFrame) -> pd.Series:
    high, low = df.high.to_numpy(), df.low.to_numpy()
    rising, stop, extreme, speed = True, low[0], high[0], 0.02
    result = [np.nan]
    for row in range(1, len(df)):
        stop += speed * (extreme - stop)
        before = slice(max(row - 2, 0), row)
        stop = min(stop, low[before].min()) if rising else max(stop, high[before].max())
        if low[row] <= stop if rising else high[row] >= stop:
            rising, speed = not rising, 0.02
            stop, extreme = extreme, (high[row] if rising else low[row])
            stop = (
                min(stop, low[row - 1 : row + 1].min())
                if rising
                else max(stop, high[row - 1 : row + 1].max())
            )
        elif (high[row] > extreme) if rising else (low[row] < extreme):
            extreme = high[row] if rising else low[row]
            speed = min(speed + 0.02, 0.2)
        result.append(stop)
    return df.close / pd.Series(result, df.index) - 1


def hull(df: pd.DataFrame, n: int) -> pd.Series:
    sharp = 2 * weighted_mean(df.close, n // 2) - weighted_mean(df.close, n)
    return df.close / weighted_mean(sharp, round(n**0.5)) - 1


def tema(close: pd.Series, n: int) -> pd.Series:
    one = ema(close, n)
    two = ema(one, n)
    return 3 * one - 3 * two + ema(two, n)


def zlema(close: pd.Series, n: int) -> pd.Series:
    return ema(2 * close - close.shift((n - 1) // 2).bfill(), n)


def r_squared(df: pd.DataFrame, n: int) -> pd.Series:
    time = pd.Series(np.arange(len(df), dtype=float), df.index)
    return np.log(df.close).rolling(n).corr(time) ** 2


def above_line(df: pd.DataFrame, n: int) -> pd.Series:
    time = np.arange(n)

    def residual(window: np.ndarray) -> float:
        return float(window[-1] - np.polyval(np.polyfit(time, window, 1), n - 1))

    return np.log(df.close).rolling(n).apply(residual, raw=True)


def middle(df: pd.DataFrame, n: int) -> pd.Series:
    return (df.high.rolling(n).max() + df.low.rolling(n).min()) / 2


def span_a(df: pd.DataFrame, n: int, m: int) -> pd.Series:
    return (middle(df, n) + middle(df, m)) / 2


def reach(a: pd.Series, b: pd.Series, df: pd.DataFrame, n: int) -> pd.Series:
    return (a - b.shift()).abs().rolling(n).sum() / true_range(df).rolling(n).sum()


def chandelier(df: pd.DataFrame, n: int, side: int) -> pd.Series:
    edge = df.high.rolling(n).max() if side > 0 else df.low.rolling(n).min()
    return (df.close - (edge - side * 3 * true_range(df).rolling(n).mean())) / df.close


def sma(df: pd.DataFrame, n: int) -> pd.Series:
    return df.close.rolling(n).mean()


TREND: dict[str, Oracle] = {
    "sma_distance": lambda df, n: df.close / sma(df, n) - 1,
    "ema_distance": lambda df, n: df.close / ema(df.close, n) - 1,
    "dema_distance": lambda df, n: df.close / (2 * ema(df.close, n) - ema(ema(df.close, n), n)) - 1,
    "tema_distance": lambda df, n: df.close / tema(df.close, n) - 1,
    "zlema_distance": lambda df, n: df.close / zlema(df.close, n) - 1,
    "hull_distance": hull,
    "kama_distance": kama_distance,
    "sma_cross": lambda df, n, m: sma(df, n) / sma(df, m) - 1,
    "ema_cross": lambda df, n, m: ema(df.close, n) / ema(df.close, m) - 1,
    "ema_slope": lambda df, n, m: ema(df.close, n).pct_change(m),
    "above_sma_share": lambda df, n, m: (df.close > sma(df, n)).rolling(m).mean(),
    "plus_di": lambda df, n: directional(df, n)[0],
    "minus_di": lambda df, n: directional(df, n)[1],
    "di_balance": di_balance,
    "adx": adx,
    "aroon_up": lambda df, n: aroon(df.high, n),
    "aroon_down": lambda df, n: aroon(-df.low, n),
    "aroon_oscillator": lambda df, n: aroon(df.high, n) - aroon(-df.low, n),
    "psar_distance": psar_distance,
    "linreg_slope": lambda df, n: slope(np.log(df.close), n),
    "linreg_r2": r_squared,
    "linreg_distance": above_line,
    "ichimoku_conversion": lambda df, n: df.close / middle(df, n) - 1,
    "ichimoku_base": lambda df, n: df.close / middle(df, n) - 1,
    "ichimoku_cross": lambda df, n, m: (middle(df, n) - middle(df, m)) / df.close,
    "ichimoku_span_a": lambda df, n, m: df.close / span_a(df, n, m) - 1,
    "ichimoku_span_b": lambda df, n: df.close / middle(df, n) - 1,
    "ichimoku_cloud": lambda df, n, m, k: (span_a(df, n, m) - middle(df, k)) / df.close,
    "vortex_plus": lambda df, n: reach(df.high, df.low, df, n),
    "vortex_minus": lambda df, n: reach(df.low, df.high, df, n),
    "efficiency": lambda df, n: df.close.diff(n) / df.close.diff().abs().rolling(n).sum(),
    "chandelier_long": lambda df, n: chandelier(df, n, 1),
    "chandelier_short": lambda df, n: chandelier(df, n, -1),
    "swing_balance": lambda df, n: (
        ((np.sign(df.high.diff()) + np.sign(df.low.diff())) / 2).rolling(n).mean()
    ),
}


def hurst(df: pd.DataFrame, n: int) -> pd.Series:
    horizons = [1, 2, 4, 8]
    size = [(np.log(df.close).diff(k) ** 2).rolling(n).mean() ** 0.5 for k in horizons]
    logs = np.log(np.column_stack(size))
    return pd.Series(_slopes(horizons, logs), df.index)


def _slopes(horizons: list[int], logs: np.ndarray) -> np.ndarray:
    x = np.log(horizons)
    x = x - x.mean()
    return (logs - logs.mean(axis=1, keepdims=True)) @ x / (x @ x)


def frac_diff(df: pd.DataFrame, percent: int, n: int) -> pd.Series:
    weights = [1.0]
    for k in range(1, n):
        weights.append(-weights[-1] * (percent / 100 - k + 1) / k)
    price = np.log(df.close)
    return sum(w * (price.shift(k) - price.shift(n)) for k, w in enumerate(weights))


def mean_reversion(df: pd.DataFrame, n: int) -> pd.Series:
    price = np.log(df.close)
    return price.diff().rolling(n).cov(price.shift(), ddof=0) / price.shift().rolling(n).var(ddof=0)


def permutation_entropy(df: pd.DataFrame, n: int) -> pd.Series:
    close = df.close.to_numpy()
    shape = np.array(
        [-1, -1]
        + [int("".join(map(str, np.argsort(close[i - 2 : i + 1])))) for i in range(2, len(df))]
    )

    def entropy(window: np.ndarray) -> float:
        share = np.unique(window, return_counts=True)[1] / n
        return float(-(share * np.log(share)).sum() / np.log(6))

    return pd.Series(shape, df.index).astype(float).rolling(n).apply(entropy, raw=True)


def amihud(df: pd.DataFrame, n: int, m: int) -> pd.Series:
    size, money = log_return(df).abs(), df.volume * df.close
    short, long = (size.rolling(k).sum() / money.rolling(k).sum() for k in (n, m))
    return (short - long) / (short + long)


def corwin_schultz(df: pd.DataFrame, n: int) -> pd.Series:
    beta = np.log(df.high / df.low) ** 2 + np.log(df.high.shift() / df.low.shift()) ** 2
    gamma = np.log(df.high.rolling(2).max() / df.low.rolling(2).min()) ** 2
    k = 3 - 2 * 2**0.5
    alpha = ((2 * beta) ** 0.5 - beta**0.5) / k - (gamma / k) ** 0.5
    spread = 2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))
    return spread.clip(lower=0).rolling(n).mean()


def roll(df: pd.DataFrame, n: int) -> pd.Series:
    covariance = log_return(df).rolling(n).cov(log_return(df).shift(), ddof=0)
    return 2 * (-covariance).clip(lower=0) ** 0.5


def abdi_ranaldo(df: pd.DataFrame, n: int) -> pd.Series:
    close, mid = np.log(df.close), (np.log(df.high) + np.log(df.low)) / 2
    product = (close - mid) * (close - mid.shift(-1))
    return 2 * product.shift().rolling(n).mean().clip(lower=0) ** 0.5


def kyle(df: pd.DataFrame, n: int) -> pd.Series:
    flow = signed_volume(df)
    beta = (log_return(df) * flow).rolling(n).sum() / (flow**2).rolling(n).sum()
    return beta * df.volume.rolling(n).mean()


def bulk(df: pd.DataFrame, n: int) -> pd.Series:
    return df.volume * (2 / (1 + np.exp(-2 * 0.851 * log_return(df) / deviation(df, n))) - 1)


def sign_changes(df: pd.DataFrame, n: int) -> pd.Series:
    sign = np.sign(df.close.diff())
    return (
        ((sign == -sign.shift()) & (sign != 0)).where(sign.notna()).astype(float).rolling(n).mean()
    )


STATISTICS: dict[str, Oracle] = {
    "skewness": lambda df, n: log_return(df).rolling(n).apply(stats.skew, raw=True),
    "kurtosis": lambda df, n: log_return(df).rolling(n).apply(stats.kurtosis, raw=True),
    "autocorrelation": lambda df, k, n: log_return(df).rolling(n).corr(log_return(df).shift(k)),
    "absolute_autocorrelation": lambda df, k, n: (
        log_return(df).abs().rolling(n).corr(log_return(df).abs().shift(k))
    ),
    "leverage_correlation": lambda df, n: (
        log_return(df).abs().rolling(n).corr(log_return(df).shift())
    ),
    "variance_ratio": lambda df, q, n: (
        np.log(df.close).diff(q).rolling(n).var(ddof=0)
        / (q * log_return(df).rolling(n).var(ddof=0))
    ),
    "hurst": hurst,
    "frac_diff": frac_diff,
    "mean_reversion": mean_reversion,
    "return_to_risk": lambda df, n: log_return(df).rolling(n).mean() / deviation(df, n),
    "return_z_score": lambda df, n: (
        (log_return(df) - log_return(df).rolling(n).mean()) / deviation(df, n)
    ),
    "max_return_share": lambda df, n: (
        log_return(df).abs().rolling(n).max() / log_return(df).abs().rolling(n).sum()
    ),
    "zero_return_share": lambda df, n: (df.close.diff() == 0).rolling(n).mean(),
    "sign_change_share": sign_changes,
    "permutation_entropy": permutation_entropy,
    "amihud": amihud,
    "corwin_schultz": corwin_schultz,
    "roll_spread": roll,
    "abdi_ranaldo": abdi_ranaldo,
    "kyle_lambda": kyle,
    "bulk_imbalance": lambda df, n, m: bulk(df, m).rolling(n).sum() / df.volume.rolling(n).sum(),
    "vpin": lambda df, n: bulk(df, n).abs().rolling(n).sum() / df.volume.rolling(n).sum(),
}
