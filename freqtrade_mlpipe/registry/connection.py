"""The registry's models, versions, tags and aliases in an MLflow store.

MLflow is the store and the transport only; no model is ever loaded through its flavors, which
execute code.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from freqtrade_mlpipe.registry.artifacts import RunArtifacts
from freqtrade_mlpipe.registry.contention import ATTEMPTS, AlreadyThereError, TransientError, wait


class Connection(RunArtifacts):
    """The registry's calls to one MLflow store, each idempotent.

    Parameters
    ----------
    tracking_uri
        As for `mlflow_store.open_store`.
    directory
        Folder of the embedded database and artifacts.
    """

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

    def model(self, name: str) -> Any | None:
        """The registered model `name` with its tags, or None."""
        return self._call(lambda: self.client.get_registered_model(name), missing=None)

    def tag_model(self, name: str, key: str, value: str) -> None:
        """Set one tag of a registered model."""
        self._call(lambda: self.client.set_registered_model_tag(name, key, value))

    def delete_model(self, name: str) -> None:
        """Delete a registered model if it is there."""
        self._call(lambda: self.client.delete_registered_model(name), missing=None)
