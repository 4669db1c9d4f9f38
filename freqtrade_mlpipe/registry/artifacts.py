"""Runs of the MLflow store and the files they hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqtrade_mlpipe.mlflow_store import artifact_root, experiment_id
from freqtrade_mlpipe.registry.calls import StoreCalls
from freqtrade_mlpipe.run_owner import owner_tags

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

EXPERIMENT = "freqtrade_mlpipe.registry"


class RunArtifacts(StoreCalls):
    """The part of `Connection` that knows runs and their artifacts; parameters as there."""

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
        return Path(self._call(lambda: repository.download_artifacts(artifact_path, str(folder))))

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
