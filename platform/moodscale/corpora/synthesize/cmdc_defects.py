"""What is wrong with CMDC, and more that a reader must survive, planted on purpose and listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moodscale.config import ConfigError
from moodscale.corpora.synthesize.base import SynthesizeConfig
from moodscale.corpora.synthesize.choices import choose_defects
from moodscale.corpora.synthesize.defects import BROKEN_KINDS, BrokenAudio

DEFECTS: dict[str, str] = {
    "missing_visual": "one of each group: no OpenFace files at all",
    "missing_question": "a question was not recorded: no Q7.wav, nor its transcript and OpenFace file",
    "group_contradicts_total": "the first HC has a total of 10 or more, the first MDD one below 10",
    "blank_item": "an item is blank; the total says what it was",
    "items_do_not_add_up": "the items sum to one more or one less than the total",
    "total_out_of_range": "a total of 28: that person cannot be used",
    "absent_session": "a person of SubjectInfo.csv without a folder",
    "apple_double": "AppleDouble ._* files beside the real ones, and one beside SubjectInfo.csv",
    "failed_frames": "frames without a face: success 0, features NaN, in one question's OpenFace file",
    "other_sample_rate": "not part of 'all' and never listed, since readers take it: recordings at 44.1 kHz, stereo",
    "broken_audio": "not part of 'all': nine people, one recording of each broken in another way",
}
"""What ``defects`` may name, and what each plants. Readers call the repair the same."""

EXTRA = frozenset({"broken_audio", "other_sample_rate"})
MISSING_QUESTION, FAILED_QUESTION, BROKEN_QUESTION = 7, 5, 6

_HC_PLACES: dict[str, tuple[int, ...]] = {
    "group_contradicts_total": (0,),
    "missing_visual": (1,),
    "blank_item": (1,),
    "missing_question": (2,),
    "items_do_not_add_up": (2,),
    "failed_frames": (3,),
    "apple_double": (3,),
    "total_out_of_range": (4,),
    "other_sample_rate": (5,),
}
_MDD_PLACES: dict[str, tuple[int, ...]] = {"group_contradicts_total": (0,), "missing_visual": (1,)}
"""Which people have the defect, by their place in their group. What one person has may not interact."""
_NEEDED_HC = 1 + max(place for places in _HC_PLACES.values() for place in places)
_NEEDED_MDD = 1 + max(place for places in _MDD_PLACES.values() for place in places)


@dataclass(frozen=True)
class Plan:
    """Who has which defect, by folder name."""

    selected: frozenset[str]
    by_id: dict[str, frozenset[str]]
    broken_audio: dict[str, BrokenAudio]

    def of(self, interview_id: str) -> frozenset[str]:
        return self.by_id.get(interview_id, frozenset())


def select(config: SynthesizeConfig, feature_kinds: Sequence[str]) -> frozenset[str]:
    """The defects that the settings name.

    Raises:
        ConfigError: an unknown name, or one that other settings leave no room for.
    """
    impossible = () if feature_kinds else ("missing_visual", "failed_frames")
    return choose_defects(config.defects, DEFECTS, EXTRA, impossible, "features off")


def plan_defects(selected: frozenset[str], healthy: Sequence[str], depressed: Sequence[str]) -> Plan:
    """Defects by folder name.

    Raises:
        ConfigError: too few people.
    """
    planned: dict[str, set[str]] = {}
    in_places = selected & _HC_PLACES.keys()
    if in_places and (len(healthy) < _NEEDED_HC or len(depressed) < _NEEDED_MDD):
        raise ConfigError(
            f"num_participants={len(healthy) + len(depressed)} gives {len(healthy)} HC and {len(depressed)} MDD, and "
            f"defects need {_NEEDED_HC} and {_NEEDED_MDD}; take at least {_NEEDED_HC * 3 // 2}"
        )
    for group, by_defect in ((healthy, _HC_PLACES), (depressed, _MDD_PLACES)):
        for defect, places in by_defect.items():
            if defect in selected:
                for place in places:
                    planned.setdefault(group[place], set()).add(defect)
    broken: dict[str, BrokenAudio] = {}
    if "broken_audio" in selected:
        sound = [one for one in (*reversed(healthy), *reversed(depressed)) if one not in planned]
        if len(sound) < len(BROKEN_KINDS):
            raise ConfigError(
                f"num_participants={len(healthy) + len(depressed)} leaves {len(sound)} without another defect, and "
                f"broken_audio needs {len(BROKEN_KINDS)}"
            )
        broken = dict(zip(sound, BROKEN_KINDS, strict=False))
    return Plan(selected, {one: frozenset(names) for one, names in planned.items()}, broken)
