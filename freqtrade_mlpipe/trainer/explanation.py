"""Why the walk-forward members said what they said, on candles they had not seen.

References
----------
Breiman (2001), Random Forests: permutation importance. Lundberg et al. (2020), From Local Explanations
to Global Understanding with Explainable AI for Trees: TreeSHAP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from freqtrade_mlpipe.calibration import ValueCalibrator
from freqtrade_mlpipe.config import CLASSES
from freqtrade_mlpipe.member import Member
from freqtrade_mlpipe.metrics import losses_of
from freqtrade_mlpipe.trainer.evaluation import importance_of

N_ROWS = 3_000
N_FEATURES = 30
N_SHAP_ROWS = 400
N_SHAP_FEATURES = 15


@dataclass(frozen=True, eq=False)
class Explanation:
    """What features do to out-of-sample predictions.

    Attributes
    ----------
    permutation : Series
        Increase of the mean loss (log-loss in nats a row, of a regression the squared error) when the
        feature's values are shuffled among the rows; negative or near 0: not needed, or other features
        say the same. The features with the largest gain only; largest first.
    n_rows : int
        Rows it was measured on.
    shap : Series
        Mean absolute contribution; largest first. Empty where the estimator cannot say (forests).
        To the log-odds before calibration; of three classes to the score of long before softmax and
        calibration, less the mean score of the classes; of a regression to the predicted log return.
    contributions, values : DataFrame of shape (n_samples, n_features)
        A sample behind `shap`, its first features only: contribution, and the feature's value in
        the same row.
    """

    permutation: pd.Series
    n_rows: int
    shap: pd.Series
    contributions: pd.DataFrame
    values: pd.DataFrame


def explain(
    members: Sequence[Member],
    X: pd.DataFrame,
    y: pd.Series,
    dates: pd.DatetimeIndex,
    *,
    seed: int = 0,
    n_rows: int = N_ROWS,
) -> Explanation:
    """Explain members by a sample of the rows that each may speak for.

    Parameters
    ----------
    members
        Walk-forward members, and last the production member, whose gain chooses the features.
    X, y
        Features and outcomes of the members' task (NaN: left out), shape (n, n_features) and (n,).
    dates
        Open time of each row's candle (UTC), shape (n,).
    """
    ranked = importance_of(members[-1], list(X.columns)).sort_values(ascending=False, kind="stable")
    names = [str(name) for name in ranked.index[ranked > 0][:N_FEATURES]]
    rng = np.random.default_rng(seed)
    known = y.notna().to_numpy()
    increases, weights, terms, kept = [], [], [], []
    for member in members[:-1]:
        rows = np.flatnonzero(known & _spoken_for(member, dates))
        rows = np.sort(rng.permutation(rows)[: max(1, n_rows // (len(members) - 1))])
        rows = rows[np.isfinite(member.preprocessor.transform(X.iloc[rows])).all(axis=1)]
        if not len(rows):
            continue
        part = X.iloc[rows]
        increases.append(_increases(member, part, y.iloc[rows], names, rng))
        weights.append(len(rows))
        found = _contributions(member, part)
        if found is not None:
            terms.append(found.reindex(columns=X.columns, fill_value=0.0))
            kept.append(part)
    permutation = pd.Series(dtype=np.float64)
    if weights:
        mean = np.average(increases, axis=0, weights=weights)
        permutation = pd.Series(mean, index=names).sort_values(ascending=False, kind="stable")
    return Explanation(permutation, sum(weights), *_shap(terms, kept, rng))


def _spoken_for(member: Member, dates: pd.DatetimeIndex) -> NDArray[np.bool_]:
    inside = np.asarray(dates >= member.valid_from)
    if member.valid_to is not None:
        inside &= np.asarray(dates < member.valid_to)
    return inside


def _increases(
    member: Member, X: pd.DataFrame, y: pd.Series, names: Sequence[str], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Increase of the mean loss for each name; 0 for features the member does not use."""
    truth, task = y.to_numpy(dtype=np.float64), member.model.task
    base = losses_of(task, truth, member.predict_proba(X)).mean()
    used = set(member.preprocessor.kept_columns)
    found = np.zeros(len(names))
    shuffled = X.copy()
    for position, name in enumerate(names):
        if name in used:
            shuffled[name] = rng.permutation(X[name].to_numpy())
            found[position] = losses_of(task, truth, member.predict_proba(shuffled)).mean() - base
            shuffled[name] = X[name]
    return found


def _contributions(member: Member, X: pd.DataFrame) -> pd.DataFrame | None:
    matrix = np.ascontiguousarray(member.preprocessor.transform(X))
    terms = member.model.contributions(matrix)
    if terms is None:
        return None
    if terms.ndim == 3:
        terms = terms[:, CLASSES.index(1.0)] - terms.mean(axis=1)
    if isinstance(member.calibrator, ValueCalibrator):
        terms = terms * member.calibrator.slope
    return pd.DataFrame(terms, columns=list(member.preprocessor.kept_columns), index=X.index)


def _shap(
    terms: Sequence[pd.DataFrame], rows: Sequence[pd.DataFrame], rng: np.random.Generator
) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame]:
    if not terms:
        return pd.Series(dtype=np.float64), pd.DataFrame(), pd.DataFrame()
    contributions, values = pd.concat(terms), pd.concat(rows)
    strength = contributions.abs().mean().sort_values(ascending=False, kind="stable")
    strength = strength[strength > 0]
    shown = list(strength.index[:N_SHAP_FEATURES])
    sample = np.sort(rng.permutation(len(values))[:N_SHAP_ROWS])
    return (
        strength,
        contributions.iloc[sample][shown].reset_index(drop=True),
        values.iloc[sample][shown].reset_index(drop=True),
    )
