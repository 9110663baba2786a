"""One interview, from its files to the rows of a manifest. Plain and synchronous: knows no Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from upath import UPath

from moodscale.corpora.base import Corpus
from moodscale.corpora.reading.features import check_features
from moodscale.corpora.reading.members import open_input
from moodscale.prepare.clips import Cutting, Window, cut_clips
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.deidentify import deidentify
from moodscale.prepare.scan import AudioScan, estimate_snr_db, scan_audio
from moodscale.schema import AudioFile, CorpusError, Interview, Quarantined, Repair, Speaker, Turn

_CLIPPED_FROM = 0.001
"""Share of samples at full scale from which the ledger says so; single peaks are normal."""


@dataclass(frozen=True)
class PreparedInterview:
    """Rows of one interview, without its split: that needs everybody. No waveform is in it, and no words unless
    ``prepare.transcripts`` asks for them.

    Attributes:
        row: its line of the table of interviews, ``None`` where it was quarantined.
        clips: its windows in samples; empty where it has no label.
        turns: its lines of the table of turns.
    """

    interview_id: str
    row: dict[str, Any] | None
    clips: tuple[Window, ...] = ()
    repairs: tuple[Repair, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    turns: tuple[dict[str, Any], ...] = ()

    def __repr__(self) -> str:
        return f"PreparedInterview({self.interview_id!r}, {len(self.clips)} clips, {len(self.turns)} turns)"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PreparedInterview:
        values = json.loads(text)
        return cls(
            values["interview_id"],
            values["row"],
            tuple(
                Window(
                    tuple((recording, start, stop) for recording, start, stop in clip["segments"]), clip["num_turns"]
                )
                for clip in values["clips"]
            ),
            tuple(Repair(**repair) for repair in values["repairs"]),
            tuple(Quarantined(**line) for line in values["quarantined"]),
            tuple(values["turns"]),
        )


def prepare_interview(
    corpus: Corpus, interview_id: str, config: PrepareConfig, roots: Mapping[str, UPath]
) -> PreparedInterview:
    """Read one interview, check its recordings and cut it into clips.

    A recording that is damaged is quarantined; the interview with it only if it was the last. So is a feature file
    that is not what its name says: the interview then lacks that kind.

    Args:
        roots: folder of each root's name that the corpus' files may have.
    """
    reading = corpus.read(interview_id)
    interview, repairs, quarantined = reading.interview, list(reading.repairs), list(reading.quarantined)
    if interview is None:
        return PreparedInterview(interview_id, None, (), tuple(repairs), tuple(quarantined))
    interview, unusable = _without_unusable_features(interview, roots)
    quarantined += unusable

    def note(defect: str, where: str, before: str, after: str) -> None:
        source = "checked on preparing"
        repairs.append(Repair(interview.corpus, interview.interview_id, defect, where, before, after, source))

    recordings: dict[int, AudioFile] = {}
    scans: dict[int, AudioScan] = {}
    for index, audio in enumerate(interview.recordings):
        try:
            scans[index] = scan_audio(roots, audio)
        except CorpusError as error:
            quarantined.append(Quarantined(interview.corpus, interview.interview_id, "audio", str(error)))
            continue
        recordings[index] = audio
        if scans[index].peak == 0:
            note("silent_audio", audio.path, "every sample is zero", "kept")
        if scans[index].clipped_fraction >= _CLIPPED_FROM:
            note(
                "clipped_audio", audio.path, f"{scans[index].clipped_fraction:.2%} of the samples at full scale", "kept"
            )
    if interview.recordings and not recordings:
        return PreparedInterview(interview_id, None, (), tuple(repairs), tuple(quarantined))
    cutting = cut_clips(interview.turns, recordings, config)
    if cutting.num_overlapping:
        note("overlapping_turns", "turns", f"{cutting.num_overlapping} overlap the one before", "shared part used once")
    if recordings and interview.label is not None and not cutting.windows:
        note("no_clips", "turns", f"{cutting.speech_s:.1f} s of speech", "too short")
    windows = cutting.windows if interview.label is not None else ()
    row = _row(interview, recordings, scans, cutting, len(windows))
    try:
        texts, found = _texts(interview, config)
    except CorpusError as error:
        quarantined.append(Quarantined(interview.corpus, interview.interview_id, "transcript", str(error)))
        return PreparedInterview(interview_id, None, (), tuple(repairs), tuple(quarantined))
    repairs += found
    turns = tuple(_turn_rows(interview.turns, texts))
    return PreparedInterview(interview_id, row, windows, tuple(repairs), tuple(quarantined), turns)


def _without_unusable_features(interview: Interview, roots: Mapping[str, UPath]) -> tuple[Interview, list[Quarantined]]:
    """The head of every feature file is looked at: a job that extracts them should not be the first to find out."""
    usable, unusable = [], []
    for feature in interview.features:
        try:
            with open_input(roots, feature.root, feature.path) as stream:
                check_features(stream, feature.format, PurePosixPath(feature.path).name)
        except (CorpusError, OSError) as error:
            reason = str(error) if isinstance(error, CorpusError) else f"{feature.path}: cannot be read"
            unusable.append(Quarantined(interview.corpus, interview.interview_id, feature.kind, reason))
        else:
            usable.append(feature)
    if not unusable:
        return interview, []
    kinds = {feature.kind for feature in interview.features} - {feature.kind for feature in usable}
    return replace(interview, features=tuple(usable), missing=tuple(sorted({*interview.missing, *kinds}))), unusable


def _row(
    interview: Interview,
    recordings: Mapping[int, AudioFile],
    scans: Mapping[int, AudioScan],
    cutting: Cutting,
    num_clips: int,
) -> dict[str, Any]:
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
        "administered_at": interview.administered_at,
        "recordings": [
            _recording_row(index, audio, scans[index], interview.turns) for index, audio in recordings.items()
        ],
        "features": [asdict(feature) for feature in interview.features],
        "missing": list(interview.missing),
        "duration_s": sum(audio.duration_s for audio in recordings.values()),
        "num_participant_turns": sum(turn.speaker is Speaker.PARTICIPANT for turn in interview.turns),
        "num_interviewer_turns": sum(turn.speaker is Speaker.INTERVIEWER for turn in interview.turns),
        "num_turns": cutting.num_turns,
        "speech_s": cutting.speech_s,
        "tail_s": cutting.tail_s,
        "num_clips": num_clips,
    }


def _recording_row(index: int, audio: AudioFile, scan: AudioScan, turns: Sequence[Turn]) -> dict[str, Any]:
    speech = [
        (turn.start_s, turn.stop_s) for turn in turns if turn.recording == index and turn.speaker is Speaker.PARTICIPANT
    ]
    return {
        "recording": index,
        **asdict(audio),
        "peak": scan.peak,
        "clipped_fraction": scan.clipped_fraction,
        "snr_db": estimate_snr_db(scan.power, speech),
        "audio_hash": scan.content_hash,
    }


def _texts(interview: Interview, config: PrepareConfig) -> tuple[Sequence[str | None], list[Repair]]:
    """What the manifest keeps of what was said, one a turn, and lines about what was taken out of it."""
    if config.transcripts == "deidentified":
        return deidentify(config.deidentify, interview)
    return [turn.text if config.transcripts == "as_is" else None for turn in interview.turns], []


def _turn_rows(turns: Sequence[Turn], texts: Sequence[str | None]) -> list[dict[str, Any]]:
    return [
        {
            "turn": index,
            "recording": turn.recording,
            "question": turn.question,
            "speaker": turn.speaker.value,
            "start_s": turn.start_s,
            "stop_s": turn.stop_s,
            "num_characters": len(turn.text),
            "text": text,
        }
        for index, (turn, text) in enumerate(zip(turns, texts, strict=True))
    ]
