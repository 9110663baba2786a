"""A hand-made manifest to extract features from, and a cluster that is this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from upath import UPath

from moodscale.config import validate
from moodscale.features.config import ExtractConfig
from moodscale.features.plan import Group
from moodscale.features.worker import Line, Work, Worker

RECORDING = pa.struct(
    [
        ("recording", pa.int32()),
        ("root", pa.string()),
        ("path", pa.string()),
        ("sample_rate_hz", pa.int32()),
        ("num_samples", pa.int64()),
        ("audio_hash", pa.string()),
    ]
)
FEATURES = pa.struct([(name, pa.string()) for name in ("kind", "format", "root", "path")] + [("recording", pa.int32())])
INTERVIEWS = pa.schema(
    [
        ("corpus", pa.string()),
        ("interview_id", pa.string()),
        ("split", pa.string()),
        ("recordings", pa.list_(RECORDING)),
        ("features", pa.list_(FEATURES)),
        ("missing", pa.list_(pa.string())),
    ]
)

HUBERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
"""Seven convolutions as in the real one, so that frames lie where they do there."""
LAYER_NORM = {**HUBERT, "feat_extract_norm": "layer", "do_stable_layer_norm": True}


def tiny_hubert(**changes: Any) -> dict[str, Any]:
    """Settings of the extractor."""
    model = {"kind": "transformers_audio", "model": {"source": "random"}, "architecture": "hubert", "sizes": LAYER_NORM}
    return {**model, **changes}


def config(*extractors: Mapping[str, Any], **changes: Any) -> ExtractConfig:
    settings = {"window_s": 2.0, "context_s": 0.4, "batch_windows": 3, "num_actors": 2}
    return validate(ExtractConfig, {**settings, "extractors": list(extractors), **changes})


class TinyManifest:
    """Interviews of noise below one folder, as the tables of a manifest show them."""

    def __init__(self, root: Path | UPath, rows: Sequence[dict[str, Any]] = (), hash: str = "a" * 32) -> None:
        self.hash = hash
        self.roots = {"corpus": UPath(root)}
        self.rows = list(rows)

    def without_labels(self, name: str) -> pa.Table:
        assert name == "interviews"
        return pa.Table.from_pylist(self.rows, INTERVIEWS)

    def add(self, *durations_s: float, split: str = "train", rate_hz: int = 16_000, **fields: Any) -> dict[str, Any]:
        """An interview with recordings of these lengths."""
        number = len(self.rows)
        recordings = []
        for index, duration_s in enumerate(durations_s):
            name = f"{number}_{index}.wav"
            samples = noise(round(duration_s * rate_hz), seed=100 * number + index)
            with (self.roots["corpus"] / name).open("wb") as stream:
                soundfile.write(stream, samples, rate_hz, subtype="PCM_16", format="WAV")
            digest = hashlib.sha256(samples.tobytes()).hexdigest()[:32]
            facts = {"sample_rate_hz": rate_hz, "num_samples": len(samples), "audio_hash": digest}
            recordings.append({"recording": index, "root": "corpus", "path": name, **facts})
        row = {"corpus": "tiny", "interview_id": str(number), "split": split, "recordings": recordings}
        self.rows.append({"features": [], "missing": [], **row, **fields})
        return self.rows[-1]

    def hashes(self) -> list[str]:
        return [recording["audio_hash"] for row in self.rows for recording in row["recordings"]]


def noise(num_samples: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    drawn = np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)
    return drawn * np.float32(0.05)


class SerialCluster:
    """Does the work at once, in this process. ``stop_after`` ends the run as a SIGKILL would: after so many lines."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.groups: list[Group] = []
        self.num_models = 0
        self.mapped = 0

    def run(self, work: Work, groups: Sequence[Group], config: ExtractConfig) -> Iterator[Line]:
        self.num_models += 1
        self.groups.extend(groups)
        for index, line in enumerate(Worker(work).run(groups)):
            if index == self.stop_after:
                raise KeyboardInterrupt
            yield line

    def map_tasks(self, function: Callable[[str], str], texts: Sequence[str]) -> list[str]:
        self.mapped += len(texts)
        return [function(text) for text in texts]
