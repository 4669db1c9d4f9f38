"""What may be written on a version that is there: labels, notes, records, a signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from freqtrade_mlpipe.exceptions import RegistryError
from freqtrade_mlpipe.registry.files import SIGNATURE_FILE, scratch_folder
from freqtrade_mlpipe.registry.reading import RegistryReader
from freqtrade_mlpipe.registry.record import Record, RecordKind
from freqtrade_mlpipe.registry.signing import sign
from freqtrade_mlpipe.registry.stored import stored_copy
from freqtrade_mlpipe.registry.versions import LABELS_TAG, NOTE_PREFIX, ModelVersion, encode


class RegistryNotes(RegistryReader):
    """The part of `ModelRegistry` that adds to a version and moves none; parameters as there."""

    def tag_model(
        self,
        name: str,
        version: str | int,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        notes: str | None = None,
    ) -> ModelVersion:
        """Change the labels and the note of a version; the version.

        Raises
        ------
        RegistryError
            No such version, a label to remove that it does not have, or an empty label.
        """
        chosen = self.get_version(name, version)
        if any(not label.strip() for label in add):
            raise RegistryError("A tag is empty. Give a word.")
        unknown = [label for label in remove if label not in chosen.tags]
        if unknown:
            raise RegistryError(
                f"Version {version} of {name} has no tag {unknown[0]!r}. "
                f"It has: {', '.join(chosen.tags) or 'none'}."
            )
        tags = [label for label in dict.fromkeys((*chosen.tags, *add)) if label not in remove]
        labels: dict[str, object] = {"tags": tags}
        note = notes if notes is not None else chosen.edited_notes
        if note is not None:
            labels["notes"] = note
        self._connection.set_tag(name, chosen.version, LABELS_TAG, encode(labels))
        return self.get_version(name, version)

    def annotate(
        self, name: str, version: str | int, key: str, value: Mapping[str, object]
    ) -> None:
        """Keep a note (JSON types) with a version under the tag `mlpipe.<key>`; a later one replaces it.

        Raises
        ------
        RegistryError
            No such version.
        """
        chosen = self.get_version(name, version)
        self._connection.set_tag(name, chosen.version, f"{NOTE_PREFIX}{key}", encode(dict(value)))

    def keep_record(self, version: ModelVersion, kind: RecordKind, record: Record) -> None:
        """Keep what was measured on a version beside its bundle; replaces one of the same kind."""
        self._catalogue.keep_record(version.run_id, version.artifact_path, kind, record)

    def sign_model(self, name: str, version: str | int, key_file: Path | str) -> str:
        """Sign the verified files of a version; the public key.

        Raises
        ------
        RegistryError
            No such version.
        BundleError
            Its files are corrupt in the registry.
        ConfigError
            The key file is missing, no Ed25519 key, or readable by others.
        """
        chosen = self.get_version(name, version)
        signature = sign(chosen.digest, key_file)
        with stored_copy(self._connection, chosen, with_signature=False):
            pass  # they are what is signed
        with scratch_folder() as folder:
            path = Path(folder) / SIGNATURE_FILE
            path.write_bytes(signature.to_bytes())
            self._connection.upload_file(path, chosen.artifact_path, chosen.run_id)
        self._catalogue.cache.add_signature(chosen.digest, signature.to_bytes())
        return signature.public_key
