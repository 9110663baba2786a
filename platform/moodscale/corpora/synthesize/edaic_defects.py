"""E-DAIC's known defects and a few more that a reader must survive, planted on purpose and listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.base import PlantedDefect, SynthesizeConfig
from moodscale.corpora.synthesize.choices import choose_defects
from moodscale.corpora.synthesize.defects import BROKEN_KINDS, BrokenAudio

DEFECTS: dict[str, str] = {
    "stray_spaces": "spaces before or after a gender in a split table",
    "backward_times": "two transcript rows in the wrong order, and one that ends after the next has begun",
    "item_tables_disagree": "an item differs between Detailed_PHQ8_Labels.csv and detailed_lables.csv",
    "binary_contradicts_score": "PHQ_Binary of a split table does not follow from its PHQ_Score",
    "items_do_not_add_up": "the items of both item tables sum to one more or one less than the total",
    "label_out_of_range": "an item of 7 in both item tables: that person cannot be used",
    "absent_session": "342, 398: named in the training tables, without a session",
    "blank_row": "an empty line, a row of commas, a row without words",
    "apple_double": "AppleDouble ._* files beside the real ones, within archives too, and one beside the label tables",
    "time_past_end": "the last row ends after the recording",
    "missing_feature": "no OpenFace file",
    "flat_tar": "the archive's members lie at its top, not under {id}_P/",
    "broken_audio": "not part of 'all': nine otherwise sound sessions, each with another kind of broken recording",
}
"""What ``defects`` may name, and what each plants. Readers call the repair the same."""

EXTRA = frozenset({"broken_audio"})
ABSENT = (342, 398)
NEEDED_MINUTES = 1.0
"""Sessions shorter than this have too few turns to plant in."""

_TRAIN_PLACES: dict[str, tuple[int, ...]] = {
    "label_out_of_range": (0,),
    "item_tables_disagree": (1,),
    "time_past_end": (1,),
    "binary_contradicts_score": (2,),
    "missing_feature": (2,),
    "items_do_not_add_up": (3,),
    "blank_row": (3,),
    "flat_tar": (3,),
    "stray_spaces": (1, 4),
    "backward_times": (2, 4),
    "apple_double": (4,),
}
"""Which people of the training split, by their place in it, have the defect. What one person has may not interact."""
_PAST_END_S = 3.2
_OVERLAP_S = 0.4
_NEEDED_ROWS = 4


@dataclass(frozen=True)
class Plan:
    """Who has which defect, by id."""

    selected: frozenset[str]
    by_id: dict[int, frozenset[str]]
    broken_audio: dict[int, BrokenAudio]

    def has(self, interview_id: int, defect: str) -> bool:
        return defect in self.by_id.get(interview_id, frozenset())


def select(config: SynthesizeConfig, feature_kinds: Sequence[str]) -> frozenset[str]:
    """The defects that the settings name.

    Raises:
        ConfigError: an unknown name, one that other settings leave no room for, or sessions too short to plant in.
    """
    impossible, why = set[str](), []
    if not config.archives:
        impossible.add("flat_tar")
        why.append("archives off")
    if "openface" not in feature_kinds:
        impossible.add("missing_feature")
        why.append("no openface among the features")
    selected = choose_defects(config.defects, DEFECTS, EXTRA, impossible, " and ".join(why))
    if selected and config.minutes < NEEDED_MINUTES:
        raise ConfigError(f"minutes={config.minutes} is too short to plant defects; take at least {NEEDED_MINUTES}")
    return selected


def plan_defects(selected: frozenset[str], ids: Sequence[int], train_ids: Sequence[int]) -> Plan:
    """Defects by id.

    Raises:
        ConfigError: too few people.
    """
    planned: dict[int, set[str]] = {}
    for defect, places in _TRAIN_PLACES.items():
        if defect not in selected:
            continue
        if max(places) >= len(train_ids):
            raise ConfigError(
                f"num_participants={len(ids)} leaves {len(train_ids)} for training, and {defect} needs "
                f"{max(places) + 1}; take at least 9 participants"
            )
        for place in places:
            planned.setdefault(train_ids[place], set()).add(defect)
    broken: dict[int, BrokenAudio] = {}
    if "broken_audio" in selected:
        sound = [interview_id for interview_id in reversed(ids) if interview_id not in planned]
        if len(sound) < len(BROKEN_KINDS):
            raise ConfigError(
                f"num_participants={len(ids)} leaves {len(sound)} sessions without another defect, and broken_audio "
                f"needs {len(BROKEN_KINDS)}; take at least {len(planned) + len(BROKEN_KINDS)} participants"
            )
        broken = dict(zip(sound, BROKEN_KINDS, strict=False))
    return Plan(selected, {interview_id: frozenset(names) for interview_id, names in planned.items()}, broken)


@dataclass(frozen=True)
class TextRow:
    """A row of E-DAIC's transcript: it does not say who speaks."""

    start_s: float
    stop_s: float
    text: str = field(repr=False)
    confidence: float


def spoil_transcript(
    interview_id: int, rows: Sequence[TextRow], defects: frozenset[str], duration_s: float
) -> tuple[list[list[str]], list[PlantedDefect]]:
    """The transcript's cells with defects, and the list of what was planted.

    Raises:
        ConfigError: the session is too short to plant in.
    """
    spoiled, planted = list(rows), list[PlantedDefect]()

    def note(defect: str, detail: str) -> None:
        planted.append(PlantedDefect(str(interview_id), defect, detail))

    in_rows = defects & {"backward_times", "blank_row", "time_past_end"}
    if in_rows and len(rows) < _NEEDED_ROWS:
        raise ConfigError(f"session {interview_id} has {len(rows)} rows, too few for its defects; raise minutes")
    if "time_past_end" in in_rows:
        spoiled[-1] = replace(spoiled[-1], stop_s=duration_s + _PAST_END_S)
        note("time_past_end", f"1 row ends at {duration_s + _PAST_END_S:.3f} s, the recording at {duration_s:.3f} s")
    if "backward_times" in in_rows:
        overlap_s = min(_OVERLAP_S, 0.5 * (spoiled[3].stop_s - spoiled[3].start_s))
        spoiled[2] = replace(spoiled[2], stop_s=spoiled[3].start_s + overlap_s)
        spoiled[0], spoiled[1] = spoiled[1], spoiled[0]
        note(
            "backward_times",
            f"row 2 starts at {spoiled[1].start_s:.3f} s, before row 1; row 3 ends {overlap_s:.3f} s into row 4",
        )
    if "blank_row" in in_rows:
        spoiled[1] = replace(spoiled[1], text="")
        note("blank_row", f"no words from {spoiled[1].start_s:.3f} s; 1 empty line, 1 of commas")
    cells = [[f"{row.start_s:.3f}", f"{row.stop_s:.3f}", row.text, f"{row.confidence:.8f}"] for row in spoiled]
    if "blank_row" in in_rows:
        cells.insert(3, [])
        cells.insert(2, ["", "", "", ""])
    return cells, planted


def spoil_item(answers: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
    """Answers with one of them up or down by one."""
    place = int(rng.integers(len(answers)))
    changed = answers[place] - 1 if answers[place] else 1
    return (*answers[:place], changed, *answers[place + 1 :])
