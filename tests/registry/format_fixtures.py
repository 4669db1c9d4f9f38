"""Writes the bundles in `format1/`: each was written once and is only ever read, by every later release.

Run it for a new format, into a folder of its own; of a new estimator, copy its folder and its entry in the
predictions::

    python -m tests.registry.format_fixtures tests/registry/format2
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.registry import selftest_from_candles, write_bundle
from tests.registry.conftest import compute, make_candles, make_content, make_member

PREDICTIONS = "predictions.json"
SPANS = (("2023-01-14", "2023-01-20"), ("2023-01-20", None))


def write(folder: Path) -> None:
    """One bundle a model type, and what each predicts for `make_candles`."""
    candles = make_candles()
    X = compute(candles, "BTC/USDT")
    predictions = {}
    for model_type in MODELS:
        members = tuple(
            make_member(
                model_type, slice(0, 300 + 150 * k), span, seed=k, params={"n_estimators": 8}
            )
            for k, span in enumerate(SPANS)
        )
        test = selftest_from_candles(members, {"BTC/USDT": candles.tail(60)}, compute)
        content = make_content(members, self_test=test)
        digest = write_bundle(folder / model_type, content)
        columns = [member.predict_proba(X) for member in members]
        rows = [[None if np.isnan(p) else float(p) for p in column] for column in columns]
        predictions[model_type] = {"digest": digest, "probabilities": rows}
    (folder / PREDICTIONS).write_text(json.dumps(predictions, indent=0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
