"""Chats with an assistant and the questionnaires of those who had them: JSON Lines or Parquet, and a label table."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from moodscale.corpora.synthesize.base import CorpusSynthesizer, PlantedDefect, SynthesisSummary, SynthesizeConfig
from moodscale.corpora.synthesize.choices import refuse_settings
from moodscale.corpora.synthesize.conversation_defects import (
    Json,
    defect_of,
    demands_of,
    select,
    spoil_conversations,
)
from moodscale.corpora.synthesize.conversation_script import NUM_ITEMS, Conversation, Questionnaire, User, draw_user
from moodscale.corpora.synthesize.directory import claim, finish
from moodscale.corpora.synthesize.files import write_table
from moodscale.corpora.synthesize.questionnaire import NUM_ITEMS as NUM_PHQ8_ITEMS
from moodscale.corpora.synthesize.questionnaire import is_depressed, total
from moodscale.schema import Instrument

_LOG = logging.getLogger(__name__)

LABEL_COLUMNS = (
    "user_id", "instrument", "administered_at", "total", *(f"item_{number}" for number in range(1, NUM_ITEMS + 1)),
)  # fmt: skip
CONVERSATIONS, LABELS = "conversations", "labels"
"""File names, without what the format adds."""

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.string())])
_CONVERSATION_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()), ("conversation_id", pa.string()), ("started_at", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
    ]
)  # fmt: skip
_LABEL_SCHEMA = pa.schema([(name, pa.string() if name in LABEL_COLUMNS[:3] else pa.int32()) for name in LABEL_COLUMNS])
_OUT_OF_RANGE = 28
_OTHER_INSTRUMENT_DAYS = 2
_BREAKS_OFF_AT = 60
"""Characters of a line that breaks off: before anything that somebody wrote."""

Row = list[str | int | None]


@dataclass
class _Files:
    """What goes into both files, in order."""

    lines: list[Json | str] = field(default_factory=list, repr=False)
    """Conversations, and what is none as it is."""
    labels: list[Row] = field(default_factory=list, repr=False)
    planted: list[PlantedDefect] = field(default_factory=list)


class ConversationsSynthesizer(CorpusSynthesizer):
    """``synthesize conversations``: text alone, so length, audio and archives mean nothing here.

    Users without a questionnaire and conversations outside the look-back window belong to such logs, defects or not.
    Readers say who has them, so the summary lists them in any case.
    """

    kind: Literal["conversations"] = "conversations"

    def synthesize(self, config: SynthesizeConfig) -> SynthesisSummary:
        refuse_settings(config, self.kind, "archives", "features", "feature_kinds", "visual_hz", "acoustic_hz")
        selected = select(config)
        already = claim(config, self.kind)
        if already is not None:
            _LOG.info("%s: already there, nothing to do", config.out)
            return already
        started = time.perf_counter()
        files, late, num_depressed = _Files(), list[Json | str](), 0
        for number in range(1, config.num_participants + 1):
            defect = defect_of(number, selected)
            user = draw_user(config.seed, number, config.effect, config.unlabelled_share, demands_of(defect))
            num_depressed += any(is_depressed(one.answers) for one in user.questionnaires)
            late += _add_user(files, user, defect)
        files.lines += late
        _write_conversations(config, files.lines)
        _write_labels(config, files.labels)
        summary = SynthesisSummary(
            out=config.out,
            num_participants=config.num_participants,
            num_depressed=num_depressed,
            split_sizes={},
            audio_s=0.0,
            participant_s=0.0,
            elapsed_s=round(time.perf_counter() - started, 3),
            planted=tuple(sorted(files.planted, key=lambda one: (one.interview_id, one.defect))),
        )
        finish(config, self.kind, summary)
        _LOG.info("%s: %d users, %d conversations", config.out, config.num_participants, len(files.lines))
        return summary


def _add_user(files: _Files, user: User, defect: str) -> list[Json | str]:
    """Add a user's conversations and questionnaires; what is to stand at the end of the file is returned."""
    num_outside = sum(not conversation.in_window for conversation in user.conversations)
    if not user.questionnaires:
        files.planted.append(PlantedDefect(user.user_id, "no_label", f"{len(user.conversations)} conversations"))
    elif num_outside:
        files.planted.append(PlantedDefect(user.user_id, "out_of_window", f"{num_outside} conversations"))
    written = [_as_json(user, conversation) for conversation in user.conversations]
    spoiled, planted = spoil_conversations(user.user_id, written, defect)
    files.planted += planted
    files.lines += spoiled[: len(written)]
    if defect == "invalid_line":
        files.lines.append(json.dumps(written[-1])[:_BREAKS_OFF_AT])
        files.planted.append(PlantedDefect(f"line {len(files.lines)}", "invalid_line", f"{_BREAKS_OFF_AT} characters"))
    rows, planted = _label_rows(user, defect)
    files.labels += rows
    files.planted += planted
    return list(spoiled[len(written) :])


def _as_json(user: User, conversation: Conversation) -> Json:
    messages = []
    for message in conversation.messages:
        at = {} if message.at is None else {"at": message.at.isoformat()}
        messages.append({"role": message.role, "content": message.content, **at})
    return {
        "user_id": user.user_id,
        "conversation_id": conversation.conversation_id,
        "started_at": conversation.started_at.isoformat(),
        "messages": messages,
    }


def _label_rows(user: User, defect: str) -> tuple[list[Row], list[PlantedDefect]]:
    rows, planted = [_label_row(user, one) for one in user.questionnaires], []
    score_column, first_item = LABEL_COLUMNS.index("total"), LABEL_COLUMNS.index("item_1")
    if defect == "items_do_not_add_up":
        answers = user.questionnaires[0].answers
        rows[0][first_item] = answers[0] - 1 if answers[0] else 1
        detail = f"items sum to {total(answers) + (-1 if answers[0] else 1)}, total {total(answers)}"
        planted.append(PlantedDefect(user.user_id, defect, detail))
    if defect == "total_out_of_range":
        rows[0][score_column] = _OUT_OF_RANGE
        planted.append(PlantedDefect(user.user_id, defect, f"total is {_OUT_OF_RANGE}"))
    if defect == "other_instrument":
        last = user.questionnaires[-1]
        answers = last.answers[:NUM_PHQ8_ITEMS]
        at = (last.administered_at + timedelta(days=_OTHER_INSTRUMENT_DAYS)).isoformat()
        rows.append([user.user_id, Instrument.PHQ8.value, at, total(answers), *answers, None])
        planted.append(PlantedDefect(user.user_id, defect, f"1 {Instrument.PHQ8.value}"))
    return rows, planted


def _label_row(user: User, filled_in: Questionnaire) -> Row:
    at = filled_in.administered_at.isoformat()
    return [user.user_id, Instrument.PHQ9.value, at, total(filled_in.answers), *filled_in.answers]


def _write_conversations(config: SynthesizeConfig, lines: Sequence[Json | str]) -> None:
    path = config.out / f"{CONVERSATIONS}.{config.format}"
    if config.format == "jsonl":
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_line(one) for one in lines)
    else:
        _write_parquet(path, [one for one in lines if not isinstance(one, str)], _CONVERSATION_SCHEMA)


def _line(conversation: Json | str) -> str:
    text = conversation if isinstance(conversation, str) else json.dumps(conversation, ensure_ascii=False)
    return text + "\n"


def _write_labels(config: SynthesizeConfig, rows: Sequence[Row]) -> None:
    if config.format == "jsonl":
        cells = [["" if cell is None else cell for cell in row] for row in rows]
        write_table(config.out / f"{LABELS}.csv", LABEL_COLUMNS, cells)
    else:
        records = [dict(zip(LABEL_COLUMNS, row, strict=True)) for row in rows]
        _write_parquet(config.out / f"{LABELS}.parquet", records, _LABEL_SCHEMA)


def _write_parquet(path: Path, records: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(list(records), schema=schema), path)
