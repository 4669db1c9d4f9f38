"""Signatures: who may vouch, what is refused, and that the private key goes nowhere."""

from __future__ import annotations

import base64
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from freqtrade_mlpipe.config import MLPipeConfig, RegistryConfig
from freqtrade_mlpipe.exceptions import BundleError, ConfigError
from freqtrade_mlpipe.integration.serving import resolve_served
from freqtrade_mlpipe.registry import BundleCache, ModelRegistry, generate_key, load_bundle
from freqtrade_mlpipe.registry.signing import public_key_of, require_trusted, sign, signer_of
from tests.registry.conftest import Written

NAME = "trend_classifier"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    generate_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def signed(bundle: Written, key: Path) -> Path:
    path = bundle.path / "signature"
    path.write_bytes(sign(bundle.digest, key).to_bytes())
    return path


def test_signature_verifies_with_the_library_alone(key: Path) -> None:
    signature = sign("a" * 64, key)
    public = base64.b64decode(public_key_of(key).removeprefix("ed25519:"))
    message = b"freqtrade_mlpipe bundle 1\n" + b"a" * 64
    Ed25519PublicKey.from_public_bytes(public).verify(signature.value, message)


def test_private_key_is_for_its_owner_only_and_never_overwritten(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        generate_key(key)
    assert key.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_key_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others"):
        sign("a" * 64, key)


@pytest.mark.parametrize(
    "content", [b"", b"secretsecret", b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"]
)
def test_what_is_no_key_is_refused_without_repeating_it(key: Path, content: bytes) -> None:
    key.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        sign("a" * 64, key)
    assert "secret" not in str(caught.value)
    assert "c2Vj" not in str(caught.value)
    with pytest.raises(ConfigError, match="No private key"):
        sign("a" * 64, key.with_name("none.pem"))


def test_signed_bundle_loads_and_names_its_signer(bundle: Written, key: Path) -> None:
    assert signer_of(bundle.path, bundle.digest) is None
    signed(bundle, key)
    assert signer_of(bundle.path, bundle.digest) == public_key_of(key)
    assert load_bundle(bundle.path, expect_digest=bundle.digest).digest == bundle.digest
    assert require_trusted(bundle.path, bundle.digest, {public_key_of(key)}) == public_key_of(key)


def test_signature_is_worth_nothing_for_another_bundle(
    variants: tuple[Written, ...], bundle: Written, key: Path
) -> None:
    (bundle.path / "signature").write_bytes(sign(variants[1].digest, key).to_bytes())
    with pytest.raises(BundleError, match="not valid"):
        signer_of(bundle.path, bundle.digest)


@pytest.mark.parametrize("position", range(0, 160, 7))
def test_any_changed_byte_of_the_signature_is_noticed(
    bundle: Written, key: Path, position: int
) -> None:
    path = signed(bundle, key)
    data = bytearray(path.read_bytes())
    data[position] ^= 0x15
    path.write_bytes(data)
    trusted = {public_key_of(key)}
    with pytest.raises(BundleError):
        require_trusted(bundle.path, bundle.digest, trusted)


def test_stranger_and_nobody_are_refused_where_a_signature_is_asked_for(
    bundle: Written, key: Path, tmp_path: Path
) -> None:
    trusted = {generate_key(tmp_path / "other.pem")}
    with pytest.raises(BundleError, match="not signed"):
        require_trusted(bundle.path, bundle.digest, trusted)
    signed(bundle, key)
    with pytest.raises(BundleError, match=r"not in registry\.trusted_keys"):
        require_trusted(bundle.path, bundle.digest, trusted)


def test_registry_neither_promotes_nor_loads_nor_serves_what_nobody_trusted_signed(
    new_directory: Callable[[], Path], bundle: Written, key: Path, tmp_path: Path
) -> None:
    directory, trusted = new_directory(), (public_key_of(key),)
    open_one = ModelRegistry(directory=directory)
    strict = ModelRegistry(directory=directory, trusted_keys=trusted)
    strict.register_model(model_name=NAME, model_path=bundle.path)

    with pytest.raises(BundleError, match="not signed"):
        strict.promote_to_production(NAME, 1, force_reason="now")
    with pytest.raises(BundleError, match="not signed"):
        strict.load_bundle(NAME, 1)
    with pytest.raises(BundleError, match="not signed"):
        BundleCache(directory, trusted_keys=trusted).resolve(NAME, "1")
    assert open_one.load_bundle(NAME, 1).digest == bundle.digest

    generate_key(tmp_path / "stranger.pem")
    strict.sign_model(NAME, 1, tmp_path / "stranger.pem")
    with pytest.raises(BundleError, match=r"not in registry\.trusted_keys"):
        strict.promote_to_production(NAME, 1, force_reason="now")

    assert strict.sign_model(NAME, 1, key) == trusted[0] == strict.signer_of(NAME, 1)
    strict.promote_to_production(NAME, 1, force_reason="now")
    assert strict.load_bundle(NAME, 1).digest == bundle.digest
    cache = BundleCache(directory, trusted_keys=trusted)
    assert cache.load(cache.resolve(NAME)).digest == bundle.digest


def test_bot_elsewhere_gets_the_signature_with_the_files(
    registry: ModelRegistry, bundle: Written, key: Path
) -> None:
    """Signed after its first download: the cached copy is completed, not refused."""
    registry.register_model(model_name=NAME, model_path=bundle.path)
    BundleCache(registry.directory).resolve(NAME, "1")
    registry.sign_model(NAME, 1, key)
    trusted = (public_key_of(key),)
    (registry.directory / "cache" / bundle.digest / "signature").unlink()
    strict = BundleCache(registry.directory, trusted_keys=trusted)
    assert strict.load(strict.resolve(NAME, "1")).digest == bundle.digest
    shutil.rmtree(registry.directory / "cache")
    assert strict.load(strict.resolve(NAME, "1")).digest == bundle.digest


def test_signature_removed_from_the_cache_while_the_registry_is_down_is_refused(
    registry: ModelRegistry, bundle: Written, key: Path
) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.sign_model(NAME, 1, key)
    trusted = (public_key_of(key),)
    BundleCache(registry.directory, trusted_keys=trusted).resolve(NAME, "1")
    (registry.directory / "mlflow.db").write_bytes(b"garbage" * 4096)
    strict = BundleCache(registry.directory, trusted_keys=trusted)
    assert strict.resolve(NAME, "1").stale_reason
    (registry.directory / "cache" / bundle.digest / "signature").unlink()
    with pytest.raises(BundleError, match="not signed"):
        strict.resolve(NAME, "1")


def test_downloaded_copy_keeps_its_signature(
    registry: ModelRegistry, bundle: Written, key: Path, tmp_path: Path
) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.sign_model(NAME, 1, key)
    copy = registry.download(NAME, 1, tmp_path / "copy")
    assert signer_of(copy, bundle.digest) == public_key_of(key)


def test_bundle_signed_before_it_was_registered_stays_signed(
    registry: ModelRegistry, bundle: Written, key: Path
) -> None:
    signed(bundle, key)
    registry.register_model(model_name=NAME, model_path=bundle.path)
    assert registry.signer_of(NAME, 1) == public_key_of(key)


def test_configuration_needs_somebody_to_trust() -> None:
    with pytest.raises(ConfigError, match="trusted_keys is empty"):
        RegistryConfig(require_signature=True)
    with pytest.raises(ConfigError, match="trusted_keys"):
        RegistryConfig(trusted_keys=["ed25519:short"])


def test_what_the_strategy_serves_asks_for_the_signature(
    registry: ModelRegistry, bundle: Written, key: Path
) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    settings = {"directory": registry.directory, "require_signature": True,
                "trusted_keys": [public_key_of(key)]}  # fmt: skip
    config = MLPipeConfig(model_name=NAME, registry=settings)
    with pytest.raises(BundleError, match="not signed"):
        resolve_served(config, NAME, "1")
    registry.sign_model(NAME, 1, key)
    assert resolve_served(config, NAME, "1").version == "1"


def test_private_key_is_in_no_log_tag_or_file_of_the_registry(
    registry: ModelRegistry, bundle: Written, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.sign_model(NAME, 1, key)
    (secret,) = [line for line in key.read_text().splitlines() if not line.startswith("-")]
    raw = base64.b64decode(secret)[-32:]
    for path in registry.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert secret.encode() not in data
            assert raw not in data
    assert secret not in caplog.text
