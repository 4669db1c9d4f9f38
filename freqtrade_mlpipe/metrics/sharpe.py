"""Sharpe ratios and how far to believe them.

References
----------
Bailey & López de Prado (2012), The Sharpe Ratio Efficient Frontier. Bailey & López de Prado (2014),
The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest Overfitting and Non-Normality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

EULER_MASCHERONI = 0.5772156649015329


@dataclass(frozen=True)
class ReturnMoments:
    """What the probabilistic and deflated Sharpe ratios need to know of a return series.

    Attributes
    ----------
    n_obs : int
    sharpe : float
        Per period (not annualised).
    skew : float
    kurtosis : float
        Raw: 3 for a normal distribution.
    """

    n_obs: int
    sharpe: float
    skew: float
    kurtosis: float


def sharpe_ratio(returns: ArrayLike, periods_per_year: float | None = None) -> float:
    """Mean over standard deviation (n - 1) of per-period returns.

    Parameters
    ----------
    returns : array-like of shape (n,)
        Returns of each period, 0 when flat.
    periods_per_year : float, optional
        Annualises by its square root; None: per period.

    Returns
    -------
    float
        0.0 for a series that is 0 throughout (no trade); NaN with fewer than two returns, NaN among
        them, or returns that are all alike.

    Examples
    --------
    >>> sharpe_ratio([0.01, -0.01, 0.02, 0.0])
    0.3872983346207417
    """
    values = np.asarray(returns, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan")
    if not values.any():
        return 0.0
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if deviation <= 1e-12 * abs(mean):
        return float("nan")
    return mean / deviation * math.sqrt(periods_per_year or 1.0)


def return_moments(returns: ArrayLike) -> ReturnMoments:
    """Sharpe ratio per period, skewness and raw kurtosis of returns of shape (n,).

    Skewness and kurtosis are NaN where the Sharpe ratio is, and 0 and 3 for a series without a
    trade.
    """
    values = np.asarray(returns, dtype=np.float64)
    sharpe = sharpe_ratio(values)
    if math.isnan(sharpe):
        return ReturnMoments(len(values), sharpe, float("nan"), float("nan"))
    if not values.any():
        return ReturnMoments(len(values), sharpe, 0.0, 3.0)
    z = (values - values.mean()) / values.std()
    return ReturnMoments(len(values), sharpe, float((z**3).mean()), float((z**4).mean()))


def probabilistic_sharpe_ratio(
    sharpe: float, n_obs: int, skew: float = 0.0, kurtosis: float = 3.0, benchmark: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds `benchmark`.

    Parameters
    ----------
    sharpe, benchmark : float
        Per period.
    n_obs : int
        Number of returns.
    skew, kurtosis : float
        Of the returns; kurtosis raw (3 for a normal distribution).

    Returns
    -------
    float
        In [0, 1]; NaN where an input is NaN.

    Raises
    ------
    ValueError
        For fewer than two returns, or moments that no distribution has (kurtosis < 1 + skew²).
    """
    if any(math.isnan(value) for value in (sharpe, skew, kurtosis, benchmark)):
        return float("nan")
    if n_obs < 2:
        raise ValueError(f"n_obs must be at least 2, found {n_obs}.")
    if kurtosis < 1.0 + skew**2 - 1e-9 * max(1.0, kurtosis):
        raise ValueError(
            f"No distribution has skew {skew} and raw kurtosis {kurtosis}; was it excess kurtosis?"
        )
    variance = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    if variance <= 0:
        return float("nan")
    z = (sharpe - benchmark) * math.sqrt(n_obs - 1) / math.sqrt(variance)
    return NormalDist().cdf(z)


def expected_maximum_sharpe(n_trials: int, var_trial_sharpes: float) -> float:
    """Sharpe ratio to expect from the best of `n_trials` strategies without skill.

    Parameters
    ----------
    n_trials : int
        Every trial, failed ones too.
    var_trial_sharpes : float
        Variance of the trials' per-period Sharpe ratios.

    Returns
    -------
    float
        Per period; 0 for one trial, NaN where the variance is NaN.
    """
    if n_trials < 1:
        raise ValueError(f"n_trials must be at least 1, found {n_trials}.")
    if var_trial_sharpes < 0:
        raise ValueError(f"var_trial_sharpes must be at least 0, found {var_trial_sharpes}.")
    if n_trials == 1:
        return 0.0
    quantile = NormalDist().inv_cdf
    first = (1.0 - EULER_MASCHERONI) * quantile(1.0 - 1.0 / n_trials)
    second = EULER_MASCHERONI * quantile(1.0 - 1.0 / (n_trials * math.e))
    return math.sqrt(var_trial_sharpes) * (first + second)


def deflated_sharpe_ratio(
    sharpe: float,
    n_obs: int,
    skew: float,
    kurtosis: float,
    n_trials: int,
    var_trial_sharpes: float,
) -> float:
    """Probability that the true Sharpe ratio exceeds what the best trial would show by luck.

    Parameters
    ----------
    sharpe : float
        Per period, of the selected strategy.
    n_obs : int
        Number of returns.
    skew, kurtosis : float
        Of the returns; kurtosis raw (3 for a normal distribution).
    n_trials : int
        Every trial tried, failed ones too; 1 gives the probabilistic Sharpe ratio against 0.
    var_trial_sharpes : float
        Variance of the trials' per-period Sharpe ratios (not read for one trial).

    Returns
    -------
    float
        In [0, 1]; NaN where an input is NaN.

    Examples
    --------
    The example of Bailey & López de Prado (2014): annualised Sharpe 2.5 over 1250 days, 100 trials.

    >>> round(deflated_sharpe_ratio(2.5 / 250**0.5, 1250, -3.0, 10.0, 100, 0.5 / 250), 4)
    0.9004
    """
    luck = expected_maximum_sharpe(n_trials, var_trial_sharpes if n_trials > 1 else 0.0)
    return probabilistic_sharpe_ratio(sharpe, n_obs, skew, kurtosis, benchmark=luck)
