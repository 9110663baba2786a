"""One interview, from its files to the rows of a manifest. Plain and synchronous: knows no Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from moodscale.corpora.base import Corpus
from moodscale.corpora.reading.paths import resolve
from moodscale.prepare.clips import Cutting, Window, cut_clips
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.scan import AudioScan, scan_audio
from moodscale.schema import AudioFile, CorpusError, Interview, Quarantined, Repair, Speaker

_CLIPPED_FROM = 0.001
"""Share of samples at full scale from which the ledger says so; single peaks are normal."""


@dataclass(frozen=True)
class PreparedInterview:
    """Rows of one interview, without its split: that needs everybody. No words and no waveform are in it.

    Attributes:
        row: its line of the table of interviews, ``None`` where it was quarantined.
        clips: its windows in samples; empty where it has no label.
    """

    interview_id: str
    row: dict[str, Any] | None
    clips: tuple[Window, ...] = ()
    repairs: tuple[Repair, ...] = ()
    quarantined: tuple[Quarantined, ...] = field(default=())

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PreparedInterview:
        values = json.loads(text)
        clips = tuple(Window(tuple((a, b) for a, b in clip["segments"]), clip["num_turns"]) for clip in values["clips"])
        return cls(
            values["interview_id"],
            values["row"],
            clips,
            tuple(Repair(**repair) for repair in values["repairs"]),
            tuple(Quarantined(**line) for line in values["quarantined"]),
        )


def prepare_interview(
    corpus: Corpus, interview_id: str, config: PrepareConfig, roots: Mapping[str, Path]
) -> PreparedInterview:
    """Read one interview, check its recording and cut it into clips.

    Args:
        roots: directory of each root's name that the corpus' recordings may have.
    """
    reading = corpus.read(interview_id)
    interview, repairs, quarantined = reading.interview, list(reading.repairs), list(reading.quarantined)
    if interview is None or interview.audio is None:
        if not quarantined:
            quarantined.append(Quarantined(corpus.name, interview_id, "audio", "has no recording"))
        return PreparedInterview(interview_id, None, (), tuple(repairs), tuple(quarantined))
    audio = interview.audio
    try:
        scan = scan_audio(resolve(roots, audio.root, audio.path), audio)
    except CorpusError as error:
        quarantined.append(Quarantined(corpus.name, interview_id, "audio", str(error)))
        return PreparedInterview(interview_id, None, (), tuple(repairs), tuple(quarantined))
    cutting = cut_clips(interview.turns, audio, config)

    def note(defect: str, where: str, before: str, after: str) -> None:
        repairs.append(Repair(corpus.name, interview_id, defect, where, before, after, "checked on preparing"))

    if scan.peak == 0:
        note("silent_audio", audio.path, "every sample is zero", "kept")
    if scan.clipped_fraction >= _CLIPPED_FROM:
        note("clipped_audio", audio.path, f"{scan.clipped_fraction:.2%} of the samples at full scale", "kept")
    if cutting.num_overlapping:
        note("overlapping_turns", "turns", f"{cutting.num_overlapping} overlap the one before", "shared part used once")
    if interview.label is not None and not cutting.windows:
        note("no_clips", "turns", f"{cutting.speech_samples / audio.sample_rate_hz:.1f} s of speech", "too short")
    windows = cutting.windows if interview.label is not None else ()
    row = _row(interview, audio, scan, cutting, len(windows))
    return PreparedInterview(interview_id, row, windows, tuple(repairs), tuple(quarantined))


def _row(interview: Interview, audio: AudioFile, scan: AudioScan, cutting: Cutting, num_clips: int) -> dict[str, Any]:
    label = interview.label
    return {
        "person": interview.person,
        "interview_id": interview.interview_id,
        "corpus": interview.corpus,
        "official_split": None if interview.split is None else interview.split.value,
        "gender": interview.gender,
        "instrument": None if label is None else label.instrument.value,
        "total": None if label is None else label.total,
        "depressed": None if label is None else int(label.depressed),
        "items": None if label is None else list(label.items),
        "provenance": None if label is None else label.provenance.value,
        "root": audio.root,
        "path": audio.path,
        "sample_rate_hz": audio.sample_rate_hz,
        "num_samples": audio.num_samples,
        "duration_s": audio.duration_s,
        "peak": scan.peak,
        "clipped_fraction": scan.clipped_fraction,
        "audio_hash": scan.content_hash,
        "num_participant_turns": sum(turn.speaker is Speaker.PARTICIPANT for turn in interview.turns),
        "num_interviewer_turns": sum(turn.speaker is Speaker.INTERVIEWER for turn in interview.turns),
        "num_turns": cutting.num_turns,
        "speech_s": cutting.speech_samples / audio.sample_rate_hz,
        "tail_s": cutting.tail_samples / audio.sample_rate_hz,
        "num_clips": num_clips,
    }
