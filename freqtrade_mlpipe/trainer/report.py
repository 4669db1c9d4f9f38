"""What a training returns: the model, and everything that speaks for or against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from freqtrade_mlpipe.member import Member
from freqtrade_mlpipe.models import Parameters


@dataclass(frozen=True, eq=False)
class TrainingReport:
    """The record of a training.

    Attributes
    ----------
    best_params : dict
        Parameters of the production member; `n_estimators` is the upper limit, early stopping finds the rest.
    trials : list of dict
        Every trial of the search, pruned and failed ones too: number, params, value, state
        (complete, pruned, failed), seconds, sharpe, error, fold_scores (by metric), blind,
        walk_scores. Empty without a search.
    folds : list of dict
        Each walk-forward fold: train_start, train_end, test_start, test_end (ISO, UTC; test_end
        None: open), n_train, n_test, n_trees, the thresholds (enter, exit; of three classes long,
        short), `metrics` of its test rows, and the number of the `trial` whose parameters its member
        has (None: the defaults).
    oos : DataFrame, index (pair, date UTC)
        One row for each out-of-sample row, predicted by a model that was trained strictly before
        it: y, proba, edge, signal, position (1 long, -1 short, 0 no trade), forward_return (NaN
        without), weight, fold, known_at, its log-loss (`loss`) and that of the baselines
        (`loss_class_prior`, `loss_last_value`). With three classes also proba_short, proba_flat,
        edge_short and short_return; `proba` and `edge` are those of long. Of a regression `prediction`
        instead of `proba`, and squared errors (`loss`, `loss_mean`, `loss_zero`).
    feature_importance : Series
        Share of the production model's gain for each feature, largest first; 0 for dropped ones.
    metrics : dict of str to float
        See `ModelTrainer.train`.
    trial_sharpes : list of float
        Sharpe ratio per candle of each complete trial, net of fees, in order of the trials (for
        the deflated Sharpe ratio); NaN without forward returns.
    data_hash : str
        SHA-256 over columns, values, labels, index and whatever else was given.
    n_dropped_nan : int
        Rows left out for a missing label or feature.
    selection : Series
        Share of the walk-forward members that use each feature, largest first: what selection and
        the pruning of constant and correlated columns left in their training slices.
    front : list of int
        Numbers of the trials on the Pareto front of the metrics searched for.
    rule : str
        How the parameters were picked from the front.
    picked : int or None
        Number of the trial they come from; None without a search.
    """

    best_params: Parameters
    trials: list[dict[str, Any]]
    folds: list[dict[str, Any]]
    oos: pd.DataFrame
    feature_importance: pd.Series[float]
    metrics: dict[str, float]
    trial_sharpes: list[float]
    data_hash: str
    n_dropped_nan: int
    selection: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=np.float64))
    front: list[int] = field(default_factory=list)
    rule: str = ""
    picked: int | None = None


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """Walk-forward members and, last, the production member that was trained up to the last row."""

    members: tuple[Member, ...]
    feature_names: tuple[str, ...]
    report: TrainingReport

    @property
    def production(self) -> Member:
        """The member that speaks after the training data."""
        return self.members[-1]

    def predict_proba(self, X: pd.DataFrame | ArrayLike) -> NDArray[np.float64]:
        """Probabilities by the production member; NaN where a feature is missing.

        Of class 1, shape (n,); of three classes, shape (n, 3) in the order of `config.CLASSES`. A
        regression gives predicted log returns, shape (n,).
        In-sample for rows that it was trained on: see `report.oos` or `member.predict` for those.
        An array without names must have its columns in the order of `feature_names`.
        """
        return self.production.predict_proba(self._named(X))

    def predict(self, X: pd.DataFrame | ArrayLike) -> NDArray[np.float64]:
        """1.0 where a long trade is entered, -1.0 a short one, else 0.0; NaN where a feature is missing."""
        proba = self.predict_proba(X)
        missing = np.isnan(proba.reshape(len(proba), -1)).any(axis=1)
        return np.where(missing, np.nan, self.production.thresholds.positions(proba))

    def _named(self, X: pd.DataFrame | ArrayLike) -> pd.DataFrame:
        if isinstance(X, pd.DataFrame):
            return X
        values = np.asarray(X, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != len(self.feature_names):
            raise ValueError(
                f"X must have shape (n, {len(self.feature_names)}), found {values.shape}."
            )
        return pd.DataFrame(values, columns=list(self.feature_names))
