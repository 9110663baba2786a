"""Tars of a few members, and bytes that pack badly."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

MIB = 2**20
NOISE = np.random.default_rng(0).integers(0, 50, 3 * MIB).astype(np.uint8).tobytes()


def write_tar(path: Path, *members: tuple[str, bytes], mode: str = "w:gz", format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=format) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
