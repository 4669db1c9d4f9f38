"""One model a pair: names that cannot meet."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freqtrade_mlpipe.config import FeatureConfig, MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.retraining.units import Unit, pair_model_name, units_of

MODEL_NAME = MLPipeConfig.model_fields["model_name"].metadata[0].pattern
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True)
currencies = st.text("aB1_.-é", min_size=1, max_size=4)
pairs = st.one_of(
    st.builds("{}/{}".format, currencies, currencies),
    st.builds("{}/{}:{}".format, currencies, currencies, currencies),
)


@given(names, pairs, names, pairs)
def test_other_models_or_pairs_have_other_names(name, pair, other_name, other_pair):
    found = pair_model_name(name, pair)
    assert re.fullmatch(MODEL_NAME, found)
    same = (name, pair) == (other_name, other_pair)
    assert (found == pair_model_name(other_name, other_pair)) == same


def test_names_of_common_pairs_can_be_read():
    found = [pair_model_name("m", p) for p in ("BTC/USDT", "BTC/USDC", "BTC/USDT:USDT")]
    assert found == ["m--BTC_USDT", "m--BTC_USDC", "m--BTC_USDT-USDT"]


def test_a_name_that_would_be_too_long_is_refused():
    with pytest.raises(ConfigError, match=r"shorten mlpipe\.model_name"):
        pair_model_name("m" * 95, "BTC/USDT")


def test_scope_decides_how_many_models_there_are():
    pairs = ["A/B", "C/D"]
    pooled = MLPipeConfig(model_name="m")
    assert units_of(pooled, pairs) == [Unit("m", ("A/B", "C/D"))]
    each = MLPipeConfig(model_name="m", scope="per_pair")
    assert units_of(each, pairs) == [Unit("m--A_B", ("A/B",)), Unit("m--C_D", ("C/D",))]


def test_one_pair_has_no_rank_among_pairs():
    config = MLPipeConfig(scope="per_pair", features=FeatureConfig(rank_features=("rsi",)))
    with pytest.raises(ConfigError, match="ranks pairs among each other"):
        units_of(config, ["A/B"])
