"""What of a manifest is in the store: written when a run has finished, and what makes the next run quick."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moodscale import storage
from moodscale.features.store import FORMAT, FeatureStore, PartFacts
from moodscale.schema import Split

RECORDS_DIR = "manifests"


@dataclass(frozen=True)
class Record:
    """Every part of some splits of a manifest.

    Attributes:
        parts: by name.
        missing: interviews without something, by kind of feature.
    """

    manifest_hash: str
    splits: tuple[str, ...]
    parts: Mapping[str, PartFacts]
    missing: Mapping[str, tuple[str, ...]]

    def content_hash(self) -> str:
        """Hash of all values: equal on every storage, and however often the run was interrupted."""
        return hash_parts({name: facts.sha256 for name, facts in self.parts.items()})

    def write(self, store: FeatureStore) -> None:
        """Store the record, where it does not stand there yet."""
        path = store.directory / RECORDS_DIR / _file_name(self.manifest_hash, self.splits)
        content = {**asdict(self), "format": FORMAT, "content_hash": self.content_hash()}
        data = json.dumps(content, sort_keys=True).encode()
        if not path.exists() or path.read_bytes() != data:
            storage.write_bytes(path, data)

    @classmethod
    def read(cls, store: FeatureStore, manifest_hash: str, splits: Sequence[Split]) -> Record | None:
        """The record of a finished run; ``None`` where there is none that can be trusted."""
        names = tuple(str(split) for split in splits)
        path = store.directory / RECORDS_DIR / _file_name(manifest_hash, names)
        try:
            values: dict[str, Any] = json.loads(path.read_bytes())
            if values["format"] != FORMAT:
                return None
            parts = {name: PartFacts(**facts) for name, facts in values["parts"].items()}
            record = cls(
                str(values["manifest_hash"]),
                tuple(values["splits"]),
                parts,
                {kind: tuple(missing) for kind, missing in values["missing"].items()},
            )
            return record if record.content_hash() == values["content_hash"] else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def hash_parts(hashes: Mapping[str, str]) -> str:
    """One hash of many, whatever their order."""
    lines: Iterable[str] = (f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def _file_name(manifest_hash: str, splits: Sequence[str]) -> str:
    return f"{manifest_hash}.json" if len(splits) == len(Split) else f"{manifest_hash}.{'+'.join(splits)}.json"
