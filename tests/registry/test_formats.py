"""Every published format keeps loading: the bundles below were written by the release that introduced it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from freqtrade_mlpipe.models import MODELS
from freqtrade_mlpipe.registry import load_bundle
from freqtrade_mlpipe.registry.manifest import FORMAT_VERSION
from tests.registry.conftest import FEATURES, compute, make_candles
from tests.registry.format_fixtures import PREDICTIONS

FORMATS = sorted(Path(__file__).parent.glob("format[0-9]*"))


@pytest.mark.parametrize("model_type", list(MODELS))
@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_bundle_of_every_format_predicts_as_it_did(folder: Path, model_type: str) -> None:
    expected = json.loads((folder / PREDICTIONS).read_text())[model_type]
    bundle = load_bundle(folder / model_type, expect_digest=expected["digest"])
    assert bundle.manifest.features == FEATURES
    assert bundle.manifest.feature_config() is not None
    assert bundle.manifest.label_config() is not None
    bundle.self_test(compute)
    X = compute(make_candles(), "BTC/USDT")
    for member, column in zip(bundle.members, expected["probabilities"], strict=True):
        # Other releases of numpy and of the model's library may round the last bits differently.
        np.testing.assert_allclose(
            member.predict_proba(X), np.array(column, dtype=np.float64), atol=1e-9
        )
        assert np.isfinite(member.predict_proba(X)).sum() > 500


def test_present_format_has_its_bundles() -> None:
    assert f"format{FORMAT_VERSION}" in [folder.name for folder in FORMATS]
