"""A request's rows → clips at 16 kHz. A request comes from anywhere, so every row is checked before it is scored.

No message here holds a sample: a row is named by its number, a file by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moodscale.corpora.reading.wav import MAX_HOURS, MAX_RATE_HZ, MIN_RATE_HZ, probe
from moodscale.prepare.audio import SAMPLE_RATE_HZ, read_clip

PATH, WAVEFORM, RATE = "path", "waveform", "sample_rate_hz"
MAX_AMPLITUDE = 8.0
"""Full scale is 1. Beyond this a waveform is integer samples that nobody divided."""

HOW_TO_ASK = (
    f"give a DataFrame, or a list of dictionaries, with a column {PATH!r} (a wav file), "
    f"or with {WAVEFORM!r} (float samples, full scale 1) and {RATE!r}"
)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Recording:
    """One row of a request: how many whole clips it holds, and where they come from."""

    name: str
    num_clips: int
    clip_s: float
    path: Path | None = None
    sample_rate_hz: int = SAMPLE_RATE_HZ
    waveform: Array | None = None

    def __repr__(self) -> str:
        return f"Recording({self.name!r}, num_clips={self.num_clips})"

    def clips(self) -> Iterator[Array]:
        """Clips of ``clip_s`` from the start on, without overlap; a shorter rest is left out.

        Raises:
            ValueError: a sample that is not a number, or digital silence, by the recording's name.
        """
        for index in range(self.num_clips):
            clip = self._read(index)
            if not np.isfinite(clip).all():
                raise ValueError(f"{self.name}: holds samples that are not numbers")
            if float(np.abs(clip).max()) == 0.0:
                raise ValueError(f"{self.name}: the clip from {index * self.clip_s:g} s on is digital silence")
            yield clip

    def _read(self, index: int) -> Array:
        if self.path is not None:
            # The same reader, window by window, that the model's training clips went through.
            start_s, stop_s = index * self.clip_s, (index + 1) * self.clip_s
            row = {
                "clip_id": f"{start_s:g} s",
                "root": "input",
                "path": self.path.name,
                "sample_rate_hz": self.sample_rate_hz,
                "segments": [{"start_s": start_s, "stop_s": stop_s}],
                "duration_s": self.clip_s,
            }
            return read_clip({"input": self.path.parent}, row)
        assert self.waveform is not None
        length = round(self.clip_s * self.sample_rate_hz)
        clip = self.waveform[index * length : (index + 1) * length]
        if self.sample_rate_hz == SAMPLE_RATE_HZ:
            return clip
        import librosa  # takes a second to import, and most recordings are at 16 kHz already

        resampled = librosa.resample(clip, orig_sr=self.sample_rate_hz, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq")
        fitted: Array = librosa.util.fix_length(resampled, size=round(self.clip_s * SAMPLE_RATE_HZ))
        return fitted


def read_request(rows: pd.DataFrame, clip_s: float) -> list[Recording]:
    """Check every row of a request; headers are read, samples of files are not yet.

    Args:
        rows: columns ``path``, or ``waveform`` and ``sample_rate_hz``.
        clip_s: length of a clip, seconds; a recording must hold at least one.
    Raises:
        ValueError: naming the row (by position) or the file, and what to do.
    """
    if len(rows) == 0:
        raise ValueError(f"the request holds nothing to score; {HOW_TO_ASK}")
    if (PATH in rows.columns) == (WAVEFORM in rows.columns):
        raise ValueError(
            f"the request has {'both' if PATH in rows.columns else 'neither'} kind(s) of input; {HOW_TO_ASK}"
        )
    read = _from_path if PATH in rows.columns else _from_waveform
    records: list[Mapping[str, Any]] = [dict(zip(rows.columns, values, strict=True)) for values in rows.to_numpy()]
    return [read(row, f"row {number}", clip_s) for number, row in enumerate(records)]


def _from_path(row: Mapping[str, Any], name: str, clip_s: float) -> Recording:
    given = row[PATH]
    if not isinstance(given, str) or not given or "\0" in given:
        raise ValueError(f"{name}: {PATH} must be the path of a wav file, not {type(given).__name__}")
    path = Path(given).expanduser()
    name = f"{name} ({path.name})"
    try:
        path = path.resolve(strict=True)
    except OSError:
        raise ValueError(f"{name}: there is no such file on the machine that scores") from None
    facts = probe(path)
    return Recording(
        name=name,
        num_clips=_whole_clips(facts.num_samples, facts.sample_rate_hz, name, clip_s),
        clip_s=clip_s,
        path=path,
        sample_rate_hz=facts.sample_rate_hz,
    )


def _from_waveform(row: Mapping[str, Any], name: str, clip_s: float) -> Recording:
    rate = row.get(RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or not float(rate).is_integer():
        raise ValueError(f"{name}: {RATE} must say the waveform's rate, e.g. {SAMPLE_RATE_HZ}")
    rate_hz = int(rate)
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ValueError(f"{name}: {RATE}={rate_hz} is outside {MIN_RATE_HZ}-{MAX_RATE_HZ}")
    try:
        waveform = np.asarray(row[WAVEFORM], dtype=np.float32)
    except (TypeError, ValueError):
        waveform = None
    # Raised outside the handler: numpy's own message quotes what it could not convert.
    if waveform is None:
        raise ValueError(f"{name}: {WAVEFORM} must hold numbers only")
    if waveform.ndim != 1:
        raise ValueError(f"{name}: {WAVEFORM} must have one axis (one channel), not {waveform.ndim}; mix it down first")
    if len(waveform) > MAX_HOURS * 3600 * rate_hz:
        raise ValueError(f"{name}: longer than {MAX_HOURS} hours; no interview is that long")
    num_clips = _whole_clips(len(waveform), rate_hz, name, clip_s)
    if not np.isfinite(waveform).all():
        raise ValueError(f"{name}: {WAVEFORM} holds samples that are not numbers")
    if float(np.abs(waveform).max()) > MAX_AMPLITUDE:
        raise ValueError(f"{name}: {WAVEFORM} goes far beyond full scale, which is 1; divide integer samples first")
    return Recording(name, num_clips, clip_s, sample_rate_hz=rate_hz, waveform=waveform)


def _whole_clips(num_samples: int, rate_hz: int, name: str, clip_s: float) -> int:
    found = num_samples // round(clip_s * rate_hz)
    if found == 0:
        raise ValueError(
            f"{name}: {num_samples / rate_hz:.2f} s are shorter than one clip ({clip_s:g} s); a recording is never "
            "padded, give a longer one"
        )
    return found
