"""The bundle format: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqtrade_mlpipe.exceptions import BundleError
from freqtrade_mlpipe.features import Frames
from freqtrade_mlpipe.member import Member, predict
from freqtrade_mlpipe.registry import (
    BundleContent,
    copy_bundle,
    drift_baseline,
    load_bundle,
    selftest_from_rows,
    verify_bundle,
    write_bundle,
)
from freqtrade_mlpipe.registry.files import sha256
from tests.registry.conftest import FEATURES, NOW, Written, compute, make_candles, make_content


def test_loaded_bundle_predicts_the_same_bits(bundle: Written, members: tuple[Member, ...]) -> None:
    candles = make_candles()
    X, dates = compute(candles, "BTC/USDT"), pd.DatetimeIndex(candles["date"])
    loaded = load_bundle(bundle.path, expect_digest=bundle.digest)
    expected, found = predict(members, X, dates), loaded.predict(X, dates)
    np.testing.assert_array_equal(found.proba, expected.proba)
    np.testing.assert_array_equal(found.signal, expected.signal)
    np.testing.assert_array_equal(found.do_predict, expected.do_predict)
    assert set(np.unique(found.do_predict)) == {-1, 1}


def test_manifest_describes_the_model(bundle: Written, members: tuple[Member, ...]) -> None:
    manifest = load_bundle(bundle.path).manifest
    assert manifest.features == FEATURES
    assert manifest.pairs == ("BTC/USDT", "ETH/USDT")
    assert manifest.created_at == NOW
    assert manifest.final_window_start == members[-1].valid_from
    assert [m.valid_to is None for m in manifest.members] == [False, True]
    assert manifest.feature_config().model_dump(mode="json") == manifest.feature_settings


def test_equal_content_gives_equal_bytes(
    bundle: Written, content: BundleContent, tmp_path: Path
) -> None:
    assert write_bundle(tmp_path / "again", content) == bundle.digest
    for path in sorted(p for p in bundle.path.rglob("*") if p.is_file()):
        again = tmp_path / "again" / path.relative_to(bundle.path)
        assert again.read_bytes() == path.read_bytes()


def test_digest_is_that_of_the_manifest_which_lists_every_other_file(bundle: Written) -> None:
    data = (bundle.path / "manifest.json").read_bytes()
    assert sha256(data) == bundle.digest
    listed = json.loads(data)["files"]
    found = {p.relative_to(bundle.path).as_posix() for p in bundle.path.rglob("*") if p.is_file()}
    assert found == {*listed, "manifest.json"}


def test_nothing_in_a_bundle_is_a_pickle(bundle: Written) -> None:
    for path in (p for p in bundle.path.rglob("*") if p.is_file()):
        assert path.suffix in {".json", ".txt", ".feather"}
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
            pickle.loads(path.read_bytes())


def test_self_test_passes_on_what_was_bundled(bundle: Written) -> None:
    load_bundle(bundle.path).self_test(compute)


def test_self_test_names_the_feature_that_changed(bundle: Written) -> None:
    def drifted(candles: pd.DataFrame, pair: str, frames: Frames) -> pd.DataFrame:
        return compute(candles, pair).assign(range=lambda x: x["range"] * np.float32(1.0001))

    with pytest.raises(BundleError, match=r"1 features come out differently.*range"):
        load_bundle(bundle.path).self_test(drifted)


def test_self_test_tolerates_float_noise(bundle: Written) -> None:
    def noisy(candles: pd.DataFrame, pair: str, frames: Frames) -> pd.DataFrame:
        return compute(candles, pair) * np.float32(1 + 2e-7)

    load_bundle(bundle.path).self_test(noisy)


def test_self_test_refuses_a_missing_column_and_a_moved_warm_up(bundle: Written) -> None:
    loaded = load_bundle(bundle.path)
    with pytest.raises(BundleError, match="hour_sine"):
        loaded.self_test(
            lambda candles, pair, frames: compute(candles, pair).drop(columns="hour_sine")
        )
    with pytest.raises(BundleError, match="momentum"):
        loaded.self_test(
            lambda candles, pair, frames: compute(candles, pair).fillna({"momentum": 0.0})
        )


def test_self_test_refuses_a_member_that_answers_differently(
    bundle: Written, members: tuple[Member, ...]
) -> None:
    loaded = load_bundle(bundle.path)
    calibrator = members[0].calibrator
    swapped = replace(loaded, members=(replace(members[1], calibrator=calibrator), members[1]))
    with pytest.raises(BundleError, match="Member 0 does not reproduce"):
        swapped.self_test(compute)


def test_bundle_without_self_test_is_not_trusted(content: BundleContent, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", replace(content, self_test=None))
    with pytest.raises(BundleError, match="no self-test"):
        load_bundle(tmp_path / "b").self_test(compute)


def test_model_trained_without_candles_tests_its_rows(
    members: tuple[Member, ...], content: BundleContent, tmp_path: Path
) -> None:
    rows = selftest_from_rows(members, compute(make_candles(), "BTC/USDT"), n_rows=50)
    write_bundle(tmp_path / "b", replace(content, self_test=rows))
    load_bundle(tmp_path / "b").self_test()


def test_drift_baseline_shares_add_up_and_find_quantiles() -> None:
    values = np.arange(1000.0)
    values[:100] = np.nan
    found = drift_baseline(pd.DataFrame({"a": values, "b": np.ones(1000)}))
    bins = found["features"]["a"]  # type: ignore[index]
    np.testing.assert_allclose(bins["frequencies"], 0.1, atol=0.002)
    assert bins["missing"] == pytest.approx(0.1)
    constant = found["features"]["b"]  # type: ignore[index]
    assert sum(constant["frequencies"]) == pytest.approx(1)


def test_writing_refuses_an_occupied_folder_and_leaves_it_alone(
    content: BundleContent, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(tmp_path / "b", content)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "mine.txt").read_text() == "mine"


def test_failed_write_leaves_nothing(content: BundleContent, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "b", replace(content, members=()))
    assert list(tmp_path.iterdir()) == []


def test_copy_is_verified(bundle: Written, tmp_path: Path) -> None:
    copy = copy_bundle(bundle.path, tmp_path / "copy", bundle.digest)
    assert verify_bundle(copy)[1] == bundle.digest
    with pytest.raises(BundleError, match="expected"):
        copy_bundle(bundle.path, tmp_path / "other", "0" * 64)
    assert not (tmp_path / "other").exists()


# Hostile and damaged bundles ------------------------------------------------------------------


def refuses(bundle: Written, match: str | None = None, *, digest: bool = False) -> None:
    with pytest.raises(BundleError, match=match):
        load_bundle(bundle.path, expect_digest=bundle.digest if digest else None)


def rewrite_manifest(bundle: Written, **changes: object) -> None:
    path = bundle.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def relist(bundle: Written) -> None:
    """What an attacker does: make the manifest agree with the files."""
    files = {
        p.relative_to(bundle.path).as_posix(): {
            "sha256": sha256(p.read_bytes()),
            "size": p.stat().st_size,
        }
        for p in bundle.path.rglob("*")
        if p.is_file() and p.name != "manifest.json"
    }
    rewrite_manifest(bundle, files=files)


def test_every_flipped_byte_is_noticed(bundle: Written) -> None:
    rng = np.random.default_rng(3)
    paths = sorted(p for p in bundle.path.rglob("*") if p.is_file())
    for _ in range(150):
        path = paths[rng.integers(len(paths))]
        original = path.read_bytes()
        damaged = bytearray(original)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        refuses(bundle, digest=True)
        path.write_bytes(original)
    load_bundle(bundle.path, expect_digest=bundle.digest)


def test_truncated_and_lengthened_files_are_refused(bundle: Written) -> None:
    for path in sorted(p for p in bundle.path.rglob("*") if p.is_file()):
        original = path.read_bytes()
        for damaged in (b"", original[:-1], original[: len(original) // 2], original + b" "):
            path.write_bytes(damaged)
            refuses(bundle, digest=True)
        path.write_bytes(original)


def test_missing_and_added_files_are_refused(bundle: Written) -> None:
    extra = bundle.path / "members" / "0" / "extra.json"
    extra.write_text("{}")
    refuses(bundle, "not listed members/0/extra.json")
    extra.unlink()
    (bundle.path / "drift_baseline.json").unlink()
    refuses(bundle, "missing drift_baseline.json")


def test_links_and_devices_are_refused(bundle: Written, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    baseline = bundle.path / "drift_baseline.json"
    shutil.move(baseline, secret)
    baseline.symlink_to(secret)
    refuses(bundle, "symbolic link or a device", digest=True)
    baseline.unlink()
    os.mkfifo(baseline)
    refuses(bundle, "symbolic link or a device", digest=True)
    baseline.unlink()
    shutil.copy(secret, baseline)
    shutil.move(bundle.path / "members", tmp_path / "members")
    (bundle.path / "members").symlink_to(tmp_path / "members")
    refuses(bundle, "symbolic link or a device", digest=True)


def test_linked_manifest_is_refused(bundle: Written, tmp_path: Path) -> None:
    shutil.move(bundle.path / "manifest.json", tmp_path / "manifest.json")
    (bundle.path / "manifest.json").symlink_to(tmp_path / "manifest.json")
    refuses(bundle, "Cannot read", digest=True)


def test_manifest_that_is_a_pipe_is_refused_instead_of_waited_for(bundle: Written) -> None:
    (bundle.path / "manifest.json").unlink()
    os.mkfifo(bundle.path / "manifest.json")
    refuses(bundle, "not a regular file")


@pytest.mark.parametrize(
    "name",
    ["../outside.json", "/etc/passwd", "members/../../x", "a\\b", "a//b", "./a", ".hidden", "a/", "",
     "C:x", "a\nb", "é", "a" * 300, "a/b/c/d/e/f/g"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(bundle: Written, name: str) -> None:
    outside = bundle.path.parent / "outside.json"
    outside.write_text("{}")
    files = json.loads((bundle.path / "manifest.json").read_text())["files"]
    rewrite_manifest(bundle, files={**files, name: {"sha256": sha256(b"{}"), "size": 2}})
    refuses(bundle, "Refused the file name")


def test_wrong_digest_is_refused_before_anything_is_parsed(bundle: Written) -> None:
    (bundle.path / "manifest.json").write_text("not json")
    refuses(bundle, "expected", digest=True)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_unknown_format_version_is_refused(bundle: Written, version: object) -> None:
    rewrite_manifest(bundle, format_version=version)
    refuses(bundle, "format version")


@pytest.mark.parametrize(
    "changes",
    [
        {"members": []},
        {"features": []},
        {"features": ["a", "a"]},
        {"files": {"a": {"sha256": "xyz", "size": 1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": -1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": 10**30}}},
        {"surprise": 1},
        {"created_at": "yesterday"},
        {"model_name": 5},
    ],
)
def test_manifest_of_another_shape_is_refused(bundle: Written, changes: dict[str, object]) -> None:
    rewrite_manifest(bundle, **changes)
    refuses(bundle)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "\x00", "{}", '"x"'])
def test_manifest_that_is_none_is_refused(bundle: Written, text: str) -> None:
    (bundle.path / "manifest.json").write_text(text)
    refuses(bundle)


def test_renamed_pickle_runs_nothing_even_with_right_digests(
    bundle: Written, tmp_path: Path
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    for path in sorted(p for p in bundle.path.rglob("*") if p.is_file()):
        if path.name != "manifest.json":
            original = path.read_bytes()
            path.write_bytes(pickle.dumps(Bomb()))
            relist(bundle)
            refuses(bundle)
            path.write_bytes(original)
    assert not (tmp_path / "exploded").exists()


def test_swapped_members_are_refused_even_with_right_digests(bundle: Written) -> None:
    members = bundle.path / "members"
    (members / "0").rename(members / "9")
    (members / "1").rename(members / "0")
    (members / "9").rename(members / "1")
    relist(bundle)
    refuses(bundle, "not the one its manifest describes")


def test_member_dropped_from_the_manifest_is_refused(bundle: Written) -> None:
    listed = json.loads((bundle.path / "manifest.json").read_text())["members"]
    rewrite_manifest(bundle, members=listed[1:])
    refuses(bundle)


def test_schema_of_another_model_is_refused(bundle: Written) -> None:
    rewrite_manifest(bundle, features=list(reversed(FEATURES)))
    refuses(bundle, "schema")


def test_absurd_sizes_are_refused_without_reading(
    bundle: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (bundle.path / "drift_baseline.json").open("r+b") as file:
        file.truncate(3 * 1024**3)  # sparse
    refuses(bundle, "more than the")
    monkeypatch.setattr("freqtrade_mlpipe.registry.files.MAX_FILES", 3)
    refuses(bundle, "at most 3 files")


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        load_bundle(tmp_path / "nowhere")
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(BundleError, match="no such folder"):
        load_bundle(tmp_path / "model.pkl")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        load_bundle(tmp_path)


def test_forest_and_xgboost_members_survive(tmp_path: Path) -> None:
    from tests.registry.conftest import make_member

    members = tuple(
        make_member(kind, slice(0, 450), ("2023-01-20", None), seed=3)
        for kind in ("random_forest", "xgboost")
    )
    write_bundle(tmp_path / "b", make_content(members))
    load_bundle(tmp_path / "b").self_test(compute)
