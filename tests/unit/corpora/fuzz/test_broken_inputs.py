"""Every broken input ends in the ledger, the quarantine or a message that names it: no crash, no hang, no leak."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from broken import BASES, CANARY, Broken, catalogue, write_bases
from broken_reader import MAX_GROWTH_BYTES, Outcome, Readers, sound

Found = list[tuple[Broken, Outcome]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, dict[str, Outcome]]:
    folder = tmp_path_factory.mktemp("broken")
    write_bases(folder / "bases")
    chosen = os.environ.get("MOODSCALE_BROKEN", "")
    inputs = [*map(sound, BASES), *(one for one in catalogue() if chosen in one.name)]
    outcomes = list(Readers(folder / "bases", folder / "scratch").run(inputs))
    base = {one.kind: outcome for one, outcome in outcomes if one.name == f"sound: {one.kind}"}
    return [(one, outcome) for one, outcome in outcomes if not one.name.startswith("sound: ")], base


def test_the_sound_corpora_have_nothing_wrong_with_them(found: tuple[Found, dict[str, Outcome]]) -> None:
    _, base = found
    assert base.keys() == BASES.keys()
    for kind, outcome in base.items():
        assert (outcome.crash, outcome.refusals, outcome.quarantined) == ("", [], set()), kind
        assert outcome.num_masked == 0
        assert CANARY not in outcome.told


def test_every_broken_input_is_repaired_quarantined_or_refused(found: tuple[Found, dict[str, Outcome]]) -> None:
    outcomes, base = found
    counts = Counter(outcome.kind(base[one.kind]) for one, outcome in outcomes)
    wrong = []
    for one, outcome in outcomes:
        kind, said = outcome.kind(base[one.kind]), outcome.said(base[one.kind])
        if kind != one.expect:
            wrong.append(f"{one.name}: {kind}, not {one.expect}\n{said}\n{outcome.crash}")
        elif not one.why and (missing := [part for part in one.says if part not in said]):
            wrong.append(f"{one.name}: nothing says {missing}, only\n{said}")
    num = counts["repaired"] + counts["quarantined"] + counts["refused"]
    print(
        f"\n{num} broken inputs: {counts['repaired']} repaired, {counts['quarantined']} quarantined, "
        f"{counts['refused']} refused, {counts['crash']} crashes; besides, {counts['harmless'] + counts['silent']} "
        "that nobody needs to be told of"
    )
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong)
    assert num >= 200
    assert counts["crash"] == 0


def test_what_nobody_needs_to_be_told_has_a_reason(found: tuple[Found, dict[str, Outcome]]) -> None:
    outcomes, _ = found
    for one, _ in outcomes:
        assert bool(one.why) == (one.expect in ("harmless", "silent")), one.name


def test_no_message_quotes_what_somebody_said(found: tuple[Found, dict[str, Outcome]]) -> None:
    outcomes, _ = found
    leaky = [one.name for one, outcome in outcomes if "xylophonic" in outcome.told or "marmalade" in outcome.told]
    assert not leaky


def test_memory_and_time_stay_bounded(found: tuple[Found, dict[str, Outcome]]) -> None:
    outcomes, _ = found
    # A row group of Parquet is read whole, up to a gigabyte of it, and known to be larger only then.
    large = {
        one.name: outcome.growth_bytes >> 20
        for one, outcome in outcomes
        if outcome.growth_bytes > (8 if "conversations.parquet: a bomb" in one.name else 1) * MAX_GROWTH_BYTES
    }
    slow = {one.name: round(outcome.took_s, 1) for one, outcome in outcomes if outcome.took_s > 60}
    assert not large
    assert not slow


def test_nothing_is_written_outside(
    found: tuple[Found, dict[str, Outcome]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    evil = list(Path(tmp_path_factory.getbasetemp()).rglob("*evil*"))
    assert not evil
