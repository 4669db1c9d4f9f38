"""Calls to the MLflow store that survive contention: retried, idempotent, and with our errors.

MLflow is the store and the transport only; no model is ever loaded through its flavors, which
execute code.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from freqtrade_mlpipe.exceptions import RegistryError, StoreUnavailableError
from freqtrade_mlpipe.mlflow_store import DATABASE_NAME, artifact_root, experiment_id, open_store
from freqtrade_mlpipe.registry.contention import (
    ATTEMPTS,
    AlreadyThereError,
    MissingError,
    RegistryUnavailableError,
    TransientError,
    translate,
    wait,
)
from freqtrade_mlpipe.run_owner import owner_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

T = TypeVar("T")

EXPERIMENT = "freqtrade_mlpipe.registry"
_SQLITE_HEADER = b"SQLite format 3\0"


class Connection:
    """The registry's calls to one MLflow store.

    Parameters
    ----------
    tracking_uri
        As for `mlflow_store.open_store`.
    directory
        Folder of the embedded database and artifacts.
    """

    def __init__(self, tracking_uri: str | None, directory: Path) -> None:
        self.directory = directory
        self._embedded = tracking_uri is None
        self.client = _open(tracking_uri, directory)

    def ensure_model(self, name: str, kind: str) -> None:
        """Create the registered model `name` unless it exists."""
        with suppress(AlreadyThereError):
            self._call(lambda: self.client.create_registered_model(name, {"mlpipe.kind": kind}))

    def has_model(self, name: str) -> bool:
        """Whether a registered model `name` exists."""
        return self.model(name) is not None

    def model_names(self, kind: str) -> list[str]:
        """Names of the registered models of this kind, sorted."""
        names: list[str] = []
        token = None
        while True:
            search = partial(
                self.client.search_registered_models,
                f"tags.`mlpipe.kind` = '{kind}'",
                max_results=1000,
                page_token=token,
            )
            page: Any = self._call(search)
            names += [model.name for model in page]
            token = page.token
            if not token:
                return sorted(names)

    def create_version(
        self,
        name: str,
        tags: Mapping[str, str],
        *,
        source: str,
        run_id: str | None = None,
        description: str = "",
    ) -> Any:
        """Create a version with all its tags in one transaction, exactly once.

        Parameters
        ----------
        source
            A URI that no other version has: by it a call is recognised that failed only after the
            store had committed.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._once(
                    lambda: self.client.create_model_version(
                        name,
                        source,
                        run_id,
                        tags=dict(tags),
                        description=description or None,
                        await_creation_for=0,
                    )
                )
            except TransientError as error:
                landed = self._call(
                    lambda: self.client.search_model_versions(
                        f"name = '{name}' and source_path = '{source}'", max_results=1
                    )
                )
                if landed:
                    return landed[0]
                wait(attempt, error)
        raise AssertionError("wait raises on the last attempt")

    def get_version(self, name: str, version: str) -> Any | None:
        """One version with its tags, or None."""
        return self._call(lambda: self.client.get_model_version(name, version), missing=None)

    def list_versions(self, name: str, *, newest: int | None = None) -> list[Any]:
        """The versions of `name` with their tags, newest first; at most `newest` of them."""
        versions: list[Any] = []
        token = None
        while True:
            search = partial(
                self.client.search_model_versions,
                f"name = '{name}'",
                max_results=newest or 10_000,
                order_by=["version_number DESC"],
                page_token=token,
            )
            page: Any = self._call(search)
            versions += page
            token = page.token
            if newest is not None or not token:
                return versions

    def versions_of_run(self, run_id: str) -> list[Any]:
        """The versions whose files a run holds, with their tags."""
        search = partial(
            self.client.search_model_versions, f"run_id = '{run_id}'", max_results=1000
        )
        return list(self._call(search))

    def set_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set one tag of a version."""
        self._call(lambda: self.client.set_model_version_tag(name, version, key, value))

    def get_alias(self, name: str, alias: str) -> str | None:
        """The version an alias names, or None."""
        find = partial(self.client.get_model_version_by_alias, name, alias)
        found: Any = self._call(find, missing=None)
        return None if found is None else str(found.version)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let an alias name a version."""
        self._call(lambda: self.client.set_registered_model_alias(name, alias, version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias if it is there."""
        self._call(lambda: self.client.delete_registered_model_alias(name, alias), missing=None)

    def delete_version(self, name: str, version: str) -> None:
        """Delete a version if it is there."""
        self._call(lambda: self.client.delete_model_version(name, version), missing=None)

    def upload(self, folder: Path, artifact_path: str, run_id: str | None, run_name: str) -> str:
        """Copy a folder into the artifacts of a run; a new finished run if `run_id` is None.

        Returns
        -------
        str
            The run's id.
        """
        owner = self._new_run(run_name) if run_id is None else run_id
        repository = self._artifacts(owner)
        self._call(lambda: repository.log_artifacts(str(folder), artifact_path))
        if run_id is None:
            self._call(lambda: self.client.set_terminated(owner))
        return owner

    def upload_file(self, path: Path, artifact_path: str, run_id: str) -> None:
        """Copy one file into the folder `artifact_path` of a run; one of that name is replaced."""
        repository = self._artifacts(run_id)
        self._call(lambda: repository.log_artifact(str(path), artifact_path))

    def artifact_folders(self, run_id: str, artifact_path: str) -> list[str]:
        """Paths of the folders directly below `artifact_path` of a run."""
        repository = self._artifacts(run_id)
        found: list[Any] = self._call(lambda: repository.list_artifacts(artifact_path), missing=[])
        return [entry.path for entry in found if entry.is_dir]

    def artifact_bytes(self, run_id: str, artifact_path: str) -> int:
        """Bytes of all files below `artifact_path` of a run; 0 if there is nothing."""
        repository = self._artifacts(run_id)
        found: list[Any] = self._call(lambda: repository.list_artifacts(artifact_path), missing=[])
        inside = sum(self.artifact_bytes(run_id, entry.path) for entry in found if entry.is_dir)
        return inside + sum(int(entry.file_size or 0) for entry in found if not entry.is_dir)

    def has_artifacts(self, run_id: str, artifact_path: str) -> bool:
        """Whether a run holds anything at `artifact_path`."""
        repository = self._artifacts(run_id)
        return bool(self._call(lambda: repository.list_artifacts(artifact_path), missing=None))

    def download(self, run_id: str, artifact_path: str, folder: Path) -> Path:
        """Copy the artifacts at `artifact_path` of a run into `folder`; the path of the copy."""
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        folder.mkdir(parents=True, exist_ok=True)
        repository = self._artifacts(run_id)
        try:
            copy = self._call(lambda: repository.download_artifacts(artifact_path, str(folder)))
        except OSError as error:
            raise RegistryError(
                f"The artifacts of run {run_id} cannot be read: {error}. Restore them, or delete "
                "the version."
            ) from error
        return Path(copy)

    def delete_artifacts(self, run_id: str, artifact_path: str) -> None:
        """Remove the artifacts at `artifact_path` of a run, if they are there."""
        repository = self._artifacts(run_id)
        self._call(lambda: repository.delete_artifacts(artifact_path), missing=None)

    def runs(self) -> Iterator[Any]:
        """Every run that is not deleted, whichever experiment it belongs to."""
        experiments = self._call(lambda: self.client.search_experiments())
        ids = [experiment.experiment_id for experiment in experiments]
        token = None
        while True:
            search = partial(self.client.search_runs, ids, max_results=1000, page_token=token)
            page: Any = self._call(search)
            yield from page
            token = page.token
            if not token:
                return

    def is_bundle_run(self, run: Any) -> bool:
        """Whether a run was made by `upload` for nothing but a bundle."""
        experiment = self._call(lambda: self.client.get_experiment_by_name(EXPERIMENT))
        return experiment is not None and run.info.experiment_id == experiment.experiment_id

    def delete_run(self, run_id: str) -> None:
        """Delete a run if it is there."""
        self._call(lambda: self.client.delete_run(run_id), missing=None)

    def model(self, name: str) -> Any | None:
        """The registered model `name` with its tags, or None."""
        return self._call(lambda: self.client.get_registered_model(name), missing=None)

    def tag_model(self, name: str, key: str, value: str) -> None:
        """Set one tag of a registered model."""
        self._call(lambda: self.client.set_registered_model_tag(name, key, value))

    def delete_model(self, name: str) -> None:
        """Delete a registered model if it is there."""
        self._call(lambda: self.client.delete_registered_model(name), missing=None)

    def _new_run(self, name: str) -> str:
        experiment = self._call(lambda: experiment_id(self.client, EXPERIMENT, self.directory))
        run = self._call(
            lambda: self.client.create_run(experiment, run_name=name, tags=owner_tags())
        )
        return str(run.info.run_id)

    def _artifacts(self, run_id: str) -> ArtifactRepository:
        """Where a run keeps its files.

        MLflow records absolute paths. The embedded store is found by its folder instead, so that it
        can be moved, or be seen under another path from a container.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if self._embedded:
            place = (artifact_root(self.directory) / run_id / "artifacts").as_uri()
        else:
            place = self._call(lambda: self.client.get_run(run_id)).info.artifact_uri
        return get_artifact_repository(place, tracking_uri=self.client.tracking_uri)

    def _call(self, call: Callable[[], T], **answer_if: T) -> T:
        """The call's answer; `missing=value` is the answer when what was asked for is not there."""
        for attempt in range(ATTEMPTS):
            try:
                return self._once(call)
            except TransientError as error:
                wait(attempt, error)
            except MissingError as error:
                if "missing" in answer_if:
                    return answer_if["missing"]
                raise RegistryError(f"The registry does not know it: {error}.") from error
        raise AssertionError("wait raises on the last attempt")

    @staticmethod
    def _once(call: Callable[[], T]) -> T:
        from mlflow.exceptions import MlflowException

        try:
            return call()
        except MlflowException as error:
            raise translate(error) from error


def _open(tracking_uri: str | None, directory: Path) -> MlflowClient:
    # What it logs as an error is retried or raised here.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    database = directory / DATABASE_NAME
    if tracking_uri is None and database.exists():
        with database.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
        if header != _SQLITE_HEADER:  # MLflow would try for an hour
            raise RegistryUnavailableError(
                f"{database} is not a SQLite database (any more). Restore it from a backup, or move "
                "it away to begin with an empty registry."
            )
    try:
        return open_store(tracking_uri, directory)
    except StoreUnavailableError as error:
        raise RegistryUnavailableError(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise RegistryUnavailableError(
            f"The registry in {directory} cannot be opened: {error}. Check that the folder is there "
            "and writable."
        ) from error
