"""Which registered versions and tracked runs come from a manifest, and a mark on versions that learned from somebody
who has been forgotten since. Nothing is deleted here: taking a model away is a person's decision."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

from moodscale.registry.store import RegistryStore

MANIFEST_TAG = "moodscale.manifest_hash"
RUN_MANIFEST_TAG = "moodscale.manifest"
MEMBER_TAG = "moodscale.member."
FORGOTTEN_TAG = "moodscale.forgotten"


@dataclass(frozen=True)
class Version:
    """A registered version; ``forgotten`` is its mark so far."""

    name: str
    version: str
    run_id: str
    manifest_hash: str
    forgotten: str = ""

    @property
    def label(self) -> str:
        return f"models:/{self.name}/{self.version}"


class LineageStore(RegistryStore):
    """What an MLflow holds of some manifests."""

    def runs_of(self, manifest_hashes: Iterable[str]) -> dict[str, str]:
        """Tracked runs: id → the manifest's hash."""
        found = {}
        with self._speaking("looking for runs"):
            experiments = [one.experiment_id for one in self._client.search_experiments()]
            for hash_ in manifest_hashes if experiments else ():
                wanted = f"tags.`{RUN_MANIFEST_TAG}` = '{hash_}'"
                token = None
                while True:
                    page = self._client.search_runs(experiments, wanted, max_results=200, page_token=token)
                    found.update({run.info.run_id: hash_ for run in page})
                    token = page.token
                    if not token:
                        break
        return found

    def versions_of(self, manifest_hashes: Iterable[str]) -> list[Version]:
        """Versions by their own tag, by that of the run that they come from, or, of ensembles, by a member's."""
        hashes = set(manifest_hashes)
        runs = self.runs_of(sorted(hashes))
        found = []
        for one in self._all_versions():
            own = one.tags.get(MANIFEST_TAG) or runs.get(one.run_id or "", "")
            members = " ".join(value for key, value in one.tags.items() if key.startswith(MEMBER_TAG))
            hash_ = next((hash_ for hash_ in sorted(hashes) if hash_ == own or hash_ in members), None)
            if hash_ is not None:
                mark = one.tags.get(FORGOTTEN_TAG, "")
                found.append(Version(one.name, str(one.version), one.run_id or "", hash_, mark))
        return sorted(found, key=lambda one: (one.name, int(one.version)))

    def mark_forgotten(self, version: Version, manifest_hash: str) -> None:
        """Say on a version that its manifest became ``manifest_hash`` without somebody; said twice it counts once."""
        before = json.loads(version.forgotten) if version.forgotten else {"manifests": []}
        short = manifest_hash[:12]  # a tag's length is limited
        if short in before["manifests"]:
            return
        manifests = [*before["manifests"], short]
        at = datetime.now(UTC).isoformat(timespec="seconds")
        content = json.dumps({"at": at, "count": len(manifests), "manifests": manifests})
        self.tag_version(version.name, version.version, {FORGOTTEN_TAG: content})

    def _all_versions(self) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        token = None
        with self._speaking("reading the registered versions"):
            while True:
                page = self._client.search_model_versions(max_results=200, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        return found
