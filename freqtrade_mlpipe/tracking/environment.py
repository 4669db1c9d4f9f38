"""What a run was made with: package versions and the revision of the user's own repository."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "freqtrade-mlpipe",
    "freqtrade",
    "numpy",
    "pandas",
    "TA-Lib",
    "scikit-learn",
    "lightgbm",
    "xgboost",
    "optuna",
    "mlflow-skinny",
    "skops",
)


def package_versions() -> dict[str, str]:
    """Installed versions by distribution name, `python` first; missing packages are left out."""
    return dict(_package_versions())


@cache
def _package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def git_revision(directory: Path | None = None) -> str | None:
    """The commit checked out in `directory` (default: where we are), "-dirty" if files differ.

    None outside a repository, before the first commit, or where git is missing or slow.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
