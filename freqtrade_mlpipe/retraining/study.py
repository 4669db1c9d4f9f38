"""A search as a folder: what it is a search for, its epochs, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.exceptions import ConfigError, TrainingError
from freqtrade_mlpipe.retraining.epochs import Epoch, EpochLog

FOLDER = "retraining"
"""Below the registry's directory."""
_DESCRIPTION, _EPOCHS, _OUTCOME = "study.json", "epochs.jsonl", "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """What a search ended in: how many epochs were looked at, the best of them, and the version it became."""

    n_epochs: int
    best: int
    version: str


@dataclass(frozen=True)
class Study:
    """One search. Its name follows from all that decides its epochs, so that the same command finds it again."""

    folder: Path

    @property
    def name(self) -> str:
        """Model name and a digest."""
        return self.folder.name

    @property
    def log(self) -> EpochLog:
        """Its finished epochs."""
        return EpochLog(self.folder / _EPOCHS)

    def epochs(self) -> list[Epoch]:
        """Finished epochs by number."""
        found = self.log.read()
        return [found[number] for number in sorted(found)]

    def description(self) -> dict[str, Any]:
        """What it is a search for."""
        found: dict[str, Any] = json.loads((self.folder / _DESCRIPTION).read_text())
        return found

    def describe(self, description: Mapping[str, Any]) -> None:
        """Make the folder; a description that is there is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / _DESCRIPTION, description)

    @property
    def outcome(self) -> Outcome | None:
        """What it ended in; None while it is not finished."""
        path = self.folder / _OUTCOME
        return Outcome(**json.loads(path.read_text())) if path.exists() else None

    def conclude(self, outcome: Outcome) -> None:
        """Note what it ended in."""
        _write(self.folder / _OUTCOME, asdict(outcome))


def study_of(directory: Path, model_name: str, identity: Mapping[str, Any]) -> Study:
    """The study with this identity (JSON types), which need not exist yet."""
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Study(directory / FOLDER / f"{model_name}.{digest[:16]}")


def find_study(directory: Path, name: str | None, model_name: str | None = None) -> Study:
    """The study called `name`, else the one that was worked on last, of one model or of any.

    Raises
    ------
    ConfigError
        When there is none.
    """
    studies = [
        Study(path.parent)
        for path in sorted((directory / FOLDER).glob(f"*/{_DESCRIPTION}"))
        if model_name is None or path.parent.name.rpartition(".")[0] == model_name
    ]
    if name is not None:
        found = [study for study in studies if study.name == name]
        if not found:
            there = ", ".join(study.name for study in studies) or "none"
            raise ConfigError(f"No search is called {name}. There are: {there}.")
        return found[0]
    if not studies:
        raise ConfigError(
            f"No search in {directory / FOLDER}. Start one with `freqtrade-mlpipe retrain`."
        )
    return max(studies, key=_last_touched)


@contextmanager
def only_one(directory: Path, model_name: str) -> Iterator[None]:
    """No other process retrains the model meanwhile.

    The lock belongs to the process and goes with it, however it ends.

    Raises
    ------
    TrainingError
        When another process does.
    """
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{model_name}.busy", timeout=0):
            yield
    except Timeout as error:
        raise TrainingError(
            f"Another process is retraining {model_name}. Wait for it; `freqtrade-mlpipe retrain-list` shows how far "
            "it is."
        ) from error


def searched_settings(config: MLPipeConfig) -> dict[str, Any]:
    """The sections of the configuration that decide what an epoch is worth."""
    budget = {"optimize_hyperparams", "n_trials", "timeout_seconds", "pruner", "n_jobs",
              "optimization_metric", "optimization_metrics"}  # fmt: skip
    return {
        "features": config.features.model_dump(mode="json"),
        "labels": config.labels.model_dump(mode="json"),
        "model": config.model.model_dump(mode="json", exclude=budget),
        "retrain": config.retrain.model_dump(mode="json"),
    }


def _last_touched(study: Study) -> float:
    return max(path.stat().st_mtime for path in study.folder.iterdir())


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    unfinished.replace(path)
