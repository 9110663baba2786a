"""One person of CMDC, from their folder to an interview of twelve answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upath import UPath

from moodscale.corpora.base import CORPUS_ROOT
from moodscale.corpora.openface_rows import count_frames
from moodscale.corpora.reading.labels import read_label
from moodscale.corpora.reading.members import open_input
from moodscale.corpora.reading.paths import resolve
from moodscale.corpora.reading.tables import read_bytes
from moodscale.corpora.reading.wav import probe
from moodscale.schema import (
    DEPRESSED_FROM,
    AudioFile,
    CorpusError,
    FeatureFile,
    Instrument,
    Interview,
    Label,
    Quarantined,
    Repair,
    Speaker,
    Split,
    Turn,
)

if TYPE_CHECKING:
    from moodscale.corpora.cmdc import CmdcConfig

NAME = "cmdc"
NUM_QUESTIONS = 12
OPENFACE, OPENFACE_FORMAT = "openface", "openface.spaced"
OFFICIAL_TEST = frozenset({*(f"HC{number}" for number in range(41, 53)), *(f"MDD{n}" for n in range(21, 27))})
"""The 18 people that the public code tests on; it has no validation people."""
FROM_ROOT = "{corpus}/"


@dataclass(frozen=True)
class LabelRow:
    """One person's row of the label table, before it is understood."""

    cells: Mapping[str, str]
    duplicate: str | None = None


class PersonReader:
    """Reads one person and collects what was repaired on the way."""

    def __init__(self, config: CmdcConfig, root: UPath, table: str, interview_id: str, folders: Sequence[str]) -> None:
        """``folders`` are relative to the root: one, unless the corpus is damaged. ``table`` is the label table."""
        self.config = config
        self.roots = {CORPUS_ROOT: root}
        self.root = root
        self.table = table
        self.id = interview_id
        self.folders = folders
        self.repairs: list[Repair] = []
        self.quarantined: list[Quarantined] = []

    def note(self, defect: str, where: str, before: str, after: str, source: str = "checked on reading") -> None:
        self.repairs.append(Repair(NAME, self.id, defect, where, before, after, source))

    def read_label(self, row: LabelRow | None) -> Label | None:
        if row is None:
            self.note("no_label", self.table, "no row", "kept without a label, gives no clips")
            return None
        if row.duplicate is not None:
            raise CorpusError(row.duplicate)
        try:
            reading = read_label(row.cells, Instrument.PHQ9, self.config.total_column, None, self.config.item_columns)
        except CorpusError as error:
            raise CorpusError(f"{self.table}: {error}") from None
        for repair in reading.repairs:
            self.note(repair.defect, f"{self.table}: {repair.field}", repair.before, repair.after, "label arithmetic")
        group = "MDD" if self.id.startswith("MDD") else "HC"
        if reading.label.depressed != (group == "MDD"):
            side = f"below {DEPRESSED_FROM}" if group == "MDD" else f"{DEPRESSED_FROM} or more"
            where = f"{self.table}: {self.config.total_column}"
            self.note(
                "group_contradicts_total", where, f"recruited as {group}, total {side}",
                "the total decides", "the group is who was recruited, not the label",
            )  # fmt: skip
        return reading.label

    def read_gender(self, row: LabelRow | None) -> str:
        code = row.cells.get(self.config.gender_column) if row else None
        if code is None:
            return "unknown"
        gender = self.config.gender_codes.get(code, self.config.gender_codes.get(code.lower()))
        if gender is None:
            where = f"{self.table}: {self.config.gender_column}"
            self.note("unknown_gender", where, "a code without a meaning", "unknown", "gender_codes")
        return gender or "unknown"

    def read(self, label: Label | None, gender: str) -> Interview:
        if len(self.folders) > 1:
            raise CorpusError(f"{self.id} has several folders ({', '.join(self.folders)}); keep one")
        names = [entry.name for entry in (self.root / self.folders[0]).iterdir()]
        if doubles := sum(name.startswith("._") for name in names):
            self.note("apple_double", self.folders[0], f"{doubles} file(s) named ._*", "ignored")
        recordings = self._recordings()
        texts = self._texts(list(recordings))
        features = self._features(list(recordings))
        turns = tuple(
            Turn(Speaker.PARTICIPANT, 0.0, audio.duration_s, texts.get(question, ""), index, question)
            for index, (question, audio) in enumerate(recordings.items())
        )
        split = None
        if self.config.official_test:
            split = Split.TEST if self.id in OFFICIAL_TEST else Split.TRAIN
        missing = (OPENFACE,) if self.config.openface_pattern is not None and not features else ()
        return Interview(
            self.id, f"{NAME}:{self.id}", NAME, turns, tuple(recordings.values()), label, gender, split, features,
            missing,
        )  # fmt: skip

    def _recordings(self) -> dict[int, AudioFile]:
        """By question. One that cannot be used is quarantined alone."""
        found: dict[int, AudioFile] = {}
        missing: list[int] = []
        other_rates: dict[int, int] = {}
        for question, relative in paths_of(self.config.audio_pattern, self.folders[0], self.id).items():
            if not (self.root / relative).exists():
                missing.append(question)
                continue
            try:
                path = resolve(self.roots, CORPUS_ROOT, relative)
                facts = probe(path)
            except CorpusError as error:
                self.quarantined.append(Quarantined(NAME, self.id, relative, str(error)))
                continue
            if facts.container not in ("WAV", "WAVEX"):
                self.note("mislabelled_audio", path.name, "named .wav", f"decoded as {facts.container}")
            if self.config.sample_rate_hz not in (None, facts.sample_rate_hz):
                other_rates[facts.sample_rate_hz] = other_rates.get(facts.sample_rate_hz, 0) + 1
            found[question] = AudioFile(CORPUS_ROOT, relative, facts.sample_rate_hz, facts.num_samples)
        if not found:
            raise CorpusError(f"{self.folders[0]}: no recording as corpus.audio_pattern names them")
        for rate_hz, count in sorted(other_rates.items()):
            before = f"{count} at {rate_hz} Hz instead of {self.config.sample_rate_hz}"
            self.note("other_sample_rate", "recordings", before, "kept at their own rate")
        if missing:
            self.note("missing_question", "recordings", f"question(s) {_listed(missing)}", "no file, goes without")
        return found

    def _texts(self, questions: Sequence[int]) -> dict[int, str]:
        if self.config.transcript_pattern is None:
            return {}
        paths = paths_of(self.config.transcript_pattern, self.folders[0], self.id)
        texts: dict[int, str] = {}
        missing: list[int] = []
        for question in questions:
            relative = paths[question]
            if not (self.root / relative).exists():
                missing.append(question)
                continue
            try:
                data = read_bytes(resolve(self.roots, CORPUS_ROOT, relative))
                texts[question] = _decode(data, relative, self.config.transcript_encoding)
            except CorpusError as error:
                self.quarantined.append(Quarantined(NAME, self.id, relative, str(error)))
        if missing:
            self.note("missing_transcript", "transcripts", f"question(s) {_listed(missing)}", "kept without words")
        return texts

    def _features(self, questions: Sequence[int]) -> tuple[FeatureFile, ...]:
        if self.config.openface_pattern is None:
            return ()
        paths = paths_of(self.config.openface_pattern, self.folders[0], self.id)
        found: dict[str, FeatureFile] = {}
        missing: list[int] = []
        num_rows = num_failed = 0
        for recording, question in enumerate(questions):
            relative = paths[question]
            if relative in found:
                continue
            if not (self.root / relative).exists():
                missing.append(question)
                continue
            try:
                with open_input(self.roots, CORPUS_ROOT, relative) as stream:
                    count = count_frames(stream, relative)
            except CorpusError as error:
                self.quarantined.append(Quarantined(NAME, self.id, relative, str(error)))
                continue
            num_rows, num_failed = num_rows + count.num_rows, num_failed + count.num_failed
            found[relative] = FeatureFile(OPENFACE, OPENFACE_FORMAT, CORPUS_ROOT, relative, recording)
        if missing:
            self.note("missing_visual", OPENFACE, f"question(s) {_listed(missing)}", "no file, masked")
        if num_failed:
            self.note("failed_frames", OPENFACE, f"{num_failed} of {num_rows} frames without a face", "masked")
        return tuple(found.values())


def paths_of(pattern: str, folder: str, person: str) -> dict[int, str]:
    """Where the file of each question should lie, relative to the root, as the person's folder is.

    A pattern starts in the person's folder, unless it begins with ``{corpus}/``.
    """
    if pattern.startswith(FROM_ROOT):
        pattern = pattern.removeprefix(FROM_ROOT)
    else:
        pattern = "{folder}/" + pattern.removeprefix("{folder}/")
    return {
        question: pattern.format(folder=folder, person=person, question=question)
        for question in range(1, NUM_QUESTIONS + 1)
    }


def _decode(data: bytes, name: str, encoding: str) -> str:
    """The words of an answer on one line. A decoding error quotes bytes, so it is not passed on."""
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}: not {encoding} at byte {error.start}; set corpus.transcript_encoding, or export it again"
        ) from None
    if "\0" in text:
        raise CorpusError(f"{name}: holds NUL bytes, so it is not a text; export it again")
    return " ".join(text.split())


def _listed(questions: Sequence[int]) -> str:
    return ", ".join(str(question) for question in questions)
