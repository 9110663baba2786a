"""Recordings and feature files copied into the manifest, under the hash of their content: their paths name nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile
from upath import UPath

from moodscale.corpora.base import MANIFEST_ROOT
from moodscale.corpora.reading.members import INDEX_DIR, open_input, split_member
from moodscale.prepare.interview import PreparedInterview
from moodscale.prepare.scan import CHUNK_FRAMES
from moodscale.schema import CorpusError, Quarantined
from moodscale.storage import is_local, local_output, remove_tree

RECORDINGS_DIR = "recordings"
FEATURES_DIR = "feature_files"
UNPACKED_DIR = "unpacked"
"""Where a corpus unpacks to while it is prepared; gone afterwards."""

_CHUNK_BYTES = 2**20
_WAV_BYTES = 2**32 - 2**20
_KEPT = {"PCM_U8": "PCM_16", "PCM_S8": "PCM_16", "PCM_16": "PCM_16", "PCM_24": "PCM_24", "PCM_32": "PCM_32"}


def with_own_files(one: PreparedInterview, roots: Mapping[str, UPath], manifest_dir: UPath) -> PreparedInterview:
    """Copy what an interview's row points to into the manifest, and point there.

    Recordings are written anew, sample by sample: a header may hold a name, a title or a date. Feature files are copied
    as they are.

    Returns:
        the interview; quarantined where a file of it cannot be read any more.
    """
    if one.row is None:
        return one
    try:
        recordings = [_own_recording(row, roots, manifest_dir) for row in one.row["recordings"]]
        copied: dict[tuple[str, str], str] = {}
        features = [_own_feature(row, roots, manifest_dir, copied) for row in one.row["features"]]
    except (CorpusError, OSError, soundfile.SoundFileError, RuntimeError) as error:
        reason = str(error) if isinstance(error, CorpusError) else f"cannot be copied ({type(error).__name__})"
        line = Quarantined(one.row["corpus"], one.interview_id, "files", reason)
        return replace(one, row=None, clips=(), turns=(), quarantined=(*one.quarantined, line))
    return replace(one, row={**one.row, "recordings": recordings, "features": features})


def remove_traces(manifest_dir: UPath) -> None:
    """What was unpacked and indexed on the way bears the corpus' own file names."""
    for name in (UNPACKED_DIR, INDEX_DIR):
        remove_tree(manifest_dir / name)


def remove_unpacked(one: PreparedInterview, manifest_dir: UPath) -> None:
    """One interview's unpacked recordings, so that a corpus of archives is never there twice."""
    if one.row is not None:
        for row in one.row["recordings"]:
            if row["root"] == MANIFEST_ROOT and row["path"].startswith(f"{UNPACKED_DIR}/"):
                (manifest_dir / row["path"]).unlink(missing_ok=True)


def _own_recording(row: Mapping[str, Any], roots: Mapping[str, UPath], manifest_dir: UPath) -> dict[str, Any]:
    path = f"{RECORDINGS_DIR}/{row['audio_hash']}.wav"
    with (
        open_input(roots, row["root"], row["path"]) as stream,
        soundfile.SoundFile(stream) as source,
        local_output(_made(manifest_dir / path)) as target,
    ):
        subtype = _KEPT.get(source.subtype, "FLOAT")
        num_bytes = source.frames * source.channels * 4
        with soundfile.SoundFile(
            target,
            "w",
            source.samplerate,
            source.channels,
            subtype,
            format="WAV" if num_bytes < _WAV_BYTES else "RF64",
        ) as copy:
            dtype = "float32" if subtype == "FLOAT" else "int16" if subtype == "PCM_16" else "int32"
            left = row["num_samples"]
            while left > 0 and len(chunk := source.read(min(CHUNK_FRAMES, left), dtype=dtype, always_2d=True)):
                copy.write(chunk)
                left -= len(chunk)
    if left:
        raise CorpusError(f"{PurePosixPath(row['path']).name}: changed while it was prepared; prepare again")
    return {**row, "root": MANIFEST_ROOT, "path": path}


def _own_feature(
    row: Mapping[str, Any], roots: Mapping[str, UPath], manifest_dir: UPath, copied: dict[tuple[str, str], str]
) -> dict[str, Any]:
    place = (row["root"], row["path"])
    if place not in copied:
        archive, member = split_member(row["path"])
        suffix = PurePosixPath(member or archive).suffix
        digest = hashlib.sha256()
        with open_input(roots, *place) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        path = f"{FEATURES_DIR}/{digest.hexdigest()[:32]}{suffix}"
        with open_input(roots, *place) as stream, local_output(_made(manifest_dir / path)) as target:
            _copy(stream, target)
        copied[place] = path
    return {**row, "root": MANIFEST_ROOT, "path": copied[place]}


def _copy(stream: Any, target: Path) -> None:
    with target.open("wb") as copy:
        while chunk := stream.read(_CHUNK_BYTES):
            copy.write(chunk)


def _made(path: UPath) -> UPath:
    if is_local(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path
