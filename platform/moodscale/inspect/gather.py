"""Manifests → the tables that a data report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa

from moodscale.prepare.manifest import Manifest
from moodscale.prepare.tables import LEDGER_SCHEMA, QUARANTINE_SCHEMA
from moodscale.schema import Speaker, Split
from moodscale.storage import Place, display

READER = "inspect"
INTERVIEW = ["corpus", "interview_id"]
_LABEL_COLUMNS = ["person", *INTERVIEW, "split", "gender", "instrument", "total", "depressed", "items"]


@dataclass(frozen=True)
class Source:
    """A manifest and what it is called in the report."""

    name: str
    manifest: Manifest
    num_test_reads: int
    """Before the report read it."""


@dataclass(frozen=True)
class Gathered:
    """All manifests as one. An interview that several of them have is in it once, as the first has it.

    Interview ids have their corpus' name before them, unless there is one corpus only.

    Attributes:
        interviews: a row an interview, without its label; ``participant_s``, ``interviewer_s`` and ``other_s`` are the
            lengths of its turns by speaker.
        recordings: a row a recording.
        turns, clips: a row each; no words.
        labels: a row an interview with a label that was read.
        num_repeated: interviews that another manifest had already.
    """

    sources: tuple[Source, ...]
    interviews: pd.DataFrame
    recordings: pd.DataFrame
    turns: pd.DataFrame
    clips: pd.DataFrame
    labels: pd.DataFrame
    ledger: pd.DataFrame
    quarantine: pd.DataFrame
    label_splits: tuple[Split, ...]
    num_repeated: int

    @property
    def approximations(self) -> tuple[str, ...]:
        """What a reader of any figure made from them must know."""
        return tuple(dict.fromkeys(note for source in self.sources for note in source.manifest.approximations()))

    @property
    def corpora(self) -> list[str]:
        return sorted(set(self.interviews["corpus"]) | set(self.quarantine["corpus"]))


def gather(manifests: Sequence[Manifest], test_labels: bool = True) -> Gathered:
    """Read everything but words, once.

    Args:
        test_labels: whether the labels of the test split are read, which is counted as a read of it.
    """
    names = short_names([manifest.path for manifest in manifests])
    sources = tuple(
        Source(name, manifest, manifest.num_test_reads()) for name, manifest in zip(names, manifests, strict=True)
    )
    splits = tuple(split for split in Split if test_labels or split is not Split.TEST)
    every = _stacked([_frame(one, one.manifest.without_labels("interviews")) for one in sources])
    interviews = every.drop_duplicates(INTERVIEW, ignore_index=True)
    kept = interviews[["manifest", *INTERVIEW]]

    def once(frames: list[pd.DataFrame]) -> pd.DataFrame:
        return _stacked(frames).merge(kept, on=["manifest", *INTERVIEW])

    turns = once([_frame(one, one.manifest.without_labels("turns")) for one in sources])
    turns["length_s"] = turns["stop_s"] - turns["start_s"]
    clips = once([_frame(one, one.manifest.without_labels("clips").drop_columns(["segments"])) for one in sources])
    labels = once(
        [
            _frame(one, one.manifest.interviews(split, READER).select(_LABEL_COLUMNS))
            for one in sources
            for split in splits
        ]
    )
    ledger = _lines([one.manifest.ledger() for one in sources], LEDGER_SCHEMA)
    quarantine = _lines([one.manifest.quarantine() for one in sources], QUARANTINE_SCHEMA)
    if len({*interviews["corpus"], *quarantine["corpus"]}) > 1:
        for frame in (interviews, turns, clips, labels, ledger, quarantine):
            frame["interview_id"] = [
                f"{corpus}:{id_}" if id_ else "" for corpus, id_ in frame[INTERVIEW].itertuples(index=False)
            ]
    return Gathered(
        sources,
        interviews.join(_spoken(interviews, turns)),
        _recordings(interviews),
        turns,
        clips,
        labels[labels["total"].notna()].reset_index(drop=True),
        ledger,
        quarantine,
        splits,
        len(every) - len(interviews),
    )


def short_names(paths: Sequence[Place]) -> list[str]:
    """The shortest ends of the paths that tell them apart; a folder called just ``manifest`` needs its parent."""
    parts = [PurePosixPath(display(str(path))).parts for path in paths]
    for length in range(1, max(len(one) for one in parts) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(set(parts)) and "manifest" not in names:
            return names
    return [str(path) for path in paths]


def _frame(source: Source, table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    frame.insert(0, "manifest", source.name)
    frame["interview_id"] = _own_ids(frame)
    return frame


def own_id(corpus: str, interview_id: str) -> str:
    """As its corpus names it, without the corpus' name that combined manifests put before it."""
    return interview_id.removeprefix(f"{corpus}:")


def _own_ids(rows: pd.DataFrame) -> list[str]:
    return [own_id(corpus, id_) for corpus, id_ in rows[INTERVIEW].itertuples(index=False)]


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled or frames[:1], ignore_index=True)


def _lines(tables: list[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    """The same line in two manifests is one: they were made from the same files."""
    lines: pd.DataFrame = pa.concat_tables([table.cast(schema) for table in tables]).to_pandas()
    lines["interview_id"] = _own_ids(lines)
    return lines.drop_duplicates(ignore_index=True)


def _spoken(interviews: pd.DataFrame, turns: pd.DataFrame) -> pd.DataFrame:
    """Seconds by speaker, in the order of the interviews."""
    lengths = turns["length_s"].clip(lower=0).groupby([turns["corpus"], turns["interview_id"], turns["speaker"]]).sum()
    by_speaker = lengths.unstack("speaker") if len(lengths) else pd.DataFrame()
    index = pd.MultiIndex.from_frame(interviews[INTERVIEW])
    wide = by_speaker.reindex(index).fillna(0.0) if len(by_speaker) else pd.DataFrame(index=index)
    columns = {
        "participant_s": Speaker.PARTICIPANT,
        "interviewer_s": Speaker.INTERVIEWER,
        "other_s": Speaker.UNKNOWN,
    }
    return pd.DataFrame(
        {
            name: wide[speaker.value].to_numpy() if speaker.value in wide else np.zeros(len(interviews))
            for name, speaker in columns.items()
        }
    )


def _recordings(interviews: pd.DataFrame) -> pd.DataFrame:
    columns = ["person", *INTERVIEW, "split", "recording", "sample_rate_hz", "num_samples", "peak", "clipped_fraction"]
    rows = [
        {**{name: row[name] for name in ("person", *INTERVIEW, "split")}, **recording}
        for row in interviews[["person", *INTERVIEW, "split", "recordings"]].to_dict("records")
        for recording in row["recordings"]
    ]
    frame = pd.DataFrame(rows, columns=[*columns, "snr_db", "audio_hash"])
    return frame.astype({"peak": float, "clipped_fraction": float, "snr_db": float})
