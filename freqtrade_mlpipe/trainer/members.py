"""Members: the final fit of a training slice with chosen parameters."""

from __future__ import annotations

import pandas as pd

from freqtrade_mlpipe.member import Member
from freqtrade_mlpipe.models import MODELS, Parameters
from freqtrade_mlpipe.tuning import Ints, Recipe, TrainingData, prepare_slice


def fit_member(
    data: TrainingData,
    rows: Ints,
    recipe: Recipe,
    params: Parameters,
    *,
    valid_from: pd.Timestamp,
    valid_to: pd.Timestamp | None,
) -> Member:
    """Fit on training rows that are all known before `valid_from`.

    Estimators that stop early are fitted twice: on the first 75 % of the rows, stopped on the next
    10 %, then with that number of trees on those 85 %. The last 15 % are kept for the calibration
    and the thresholds; the model itself does not learn from them, so that its probabilities there
    are out of sample.
    """
    spec = MODELS[recipe.model.model_type]
    columns = None
    if spec.stops_early:
        stopped = prepare_slice(data, rows, recipe)
        model = stopped.fit_model(params)
        params = {**params, "n_estimators": model.n_rounds}
        if recipe.model.feature_selection:
            columns = stopped.preprocessor.kept_columns
    prepared = prepare_slice(data, rows, recipe, early_stopping=False, columns=columns)
    fitted = prepared.fit(params)
    return Member(
        model_type=recipe.model.model_type,
        model=fitted.model,
        preprocessor=fitted.preprocessor,
        calibrator=fitted.calibrator,
        thresholds=fitted.thresholds,
        train_start=data.dates[rows].min(),
        train_end=data.known_at[rows].max(),
        valid_from=valid_from,
        valid_to=valid_to,
        n_train_rows=len(rows),
    )
