"""`keys`, `sign`, `verify`: who vouches for a version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import load_context
from freqtrade_mlpipe.commands.display import console, print_mapping, print_version
from freqtrade_mlpipe.commands.lifecycle import wanted_version
from freqtrade_mlpipe.exceptions import BundleError, ConfigError

if TYPE_CHECKING:
    from freqtrade_mlpipe.config import RegistryConfig

_TRUSTED = "signed by a trusted key"
_STRANGER = "signed by a key that is not trusted"
_UNSIGNED = "not signed"


def start_keys(arguments: dict[str, Any]) -> int:
    """Make a signing key, or show the public half of one."""
    from freqtrade_mlpipe.registry.signing import generate_key, public_key_of

    path = _key_file(arguments)
    if arguments["keys_action"] == "show":
        stdout.write(public_key_of(path) + "\n")
        return 0
    public = generate_key(path)
    console.print(f"The private key is in {path}. Keep it off the machine the bot runs on.",
                  highlight=False, soft_wrap=True)  # fmt: skip
    console.print('Let the bot trust it, in "mlpipe" of its config.json:', highlight=False)
    stdout.write(f'  "registry": {{"require_signature": true, "trusted_keys": ["{public}"]}}\n')
    return 0


def start_sign(arguments: dict[str, Any]) -> int:
    """Sign the stored files of a version."""
    path = _key_file(arguments)
    context = load_context(arguments)
    version = wanted_version(context, arguments.get("model_version"))
    public = context.registry().sign_model(version.name, version.version, path)
    print_version(version, f"is signed by {public}")
    return 0


def start_verify(arguments: dict[str, Any]) -> int:
    """Check every file and the signature; exit code 2 when they are not what is asked for."""
    context = load_context(arguments)
    settings = context.mlpipe.registry
    if arguments.get("bundle"):
        what, digest, signer = _of_folder(Path(arguments["bundle"]))
    else:
        version = wanted_version(context, arguments.get("model_version"))
        what, digest = f"{version.name} version {version.version}", version.digest
        signer = context.registry().signer_of(version.name, version.version)
    verdict = _verdict(signer, settings)
    found = {"files": "as the manifest says", "digest": digest, "signature": verdict,
             "signer": signer or "-"}  # fmt: skip
    if arguments.get("print_json"):
        stdout.write_json({"bundle": what, **found, "signer": signer})
    else:
        print_mapping(what, found)
    refused = settings.require_signature and verdict != _TRUSTED
    return BundleError.exit_code if refused else 0


def _of_folder(folder: Path) -> tuple[str, str, str | None]:
    from freqtrade_mlpipe.registry import verify_bundle
    from freqtrade_mlpipe.registry.signing import signer_of

    digest = verify_bundle(folder)[1]
    return str(folder), digest, signer_of(folder, digest)


def _verdict(signer: str | None, settings: RegistryConfig) -> str:
    if signer is None:
        return _UNSIGNED
    return _TRUSTED if signer in settings.trusted_keys else _STRANGER


def _key_file(arguments: dict[str, Any]) -> Path:
    if not arguments.get("key_file"):
        raise ConfigError("Which key? Name its file with --key-file PATH.")
    return Path(arguments["key_file"])
