from __future__ import annotations

import random

import pytest

from moodscale.config import ConfigError, validate
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.splits.base import Person
from moodscale.prepare.splits.official import OfficialSplitConfig
from moodscale.prepare.splits.stratified import StratifiedSplitConfig
from moodscale.schema import Split


def crowd(num: int, depressed_share: float = 0.3, seed: int = 0) -> list[Person]:
    draw = random.Random(seed)
    return [
        Person(f"daic:{300 + i}", i < depressed_share * num, draw.choice(["female", "male"]), None) for i in range(num)
    ]


def test_shares_of_class_and_gender_are_kept_in_every_part() -> None:
    people = crowd(189)
    assigned = StratifiedSplitConfig().assign(people)
    assert assigned.keys() == {person.key for person in people}
    for split, share in ((Split.TRAIN, 0.8), (Split.VALIDATION, 0.1), (Split.TEST, 0.1)):
        part = [person for person in people if assigned[person.key] is split]
        assert abs(len(part) - share * 189) <= 2
        for depressed in (False, True):
            for gender in ("female", "male"):
                wanted = share * sum((p.depressed, p.gender) == (depressed, gender) for p in people)
                got = sum((p.depressed, p.gender) == (depressed, gender) for p in part)
                assert abs(got - wanted) <= 2


def test_a_split_depends_on_the_seed_and_not_on_the_order() -> None:
    people = crowd(60)
    shuffled = random.Random(1).sample(people, 60)
    assert StratifiedSplitConfig(seed=3).assign(people) == StratifiedSplitConfig(seed=3).assign(shuffled)
    assert StratifiedSplitConfig(seed=3).assign(people) != StratifiedSplitConfig(seed=4).assign(people)


def test_every_held_out_part_has_both_classes_even_in_a_small_corpus() -> None:
    people = crowd(12)
    assigned = StratifiedSplitConfig().assign(people)
    for split in (Split.VALIDATION, Split.TEST):
        assert {person.depressed for person in people if assigned[person.key] is split} == {False, True}


def test_too_few_people_of_a_class_are_an_error_with_the_number() -> None:
    with pytest.raises(ConfigError, match="2 people are depressed"):
        StratifiedSplitConfig().assign(crowd(20, depressed_share=0.1))


def test_shares_that_leave_nobody_to_train_on_are_refused() -> None:
    with pytest.raises(ConfigError, match="leaves nobody to train on"):
        validate(PrepareConfig, {"splits": {"kind": "stratified", "validation": 0.5, "test": 0.5}})


def test_the_official_split_is_taken_as_it_is_and_a_missing_one_is_named() -> None:
    given = [Person("a", True, "male", Split.TEST), Person("b", False, "male", Split.TRAIN)]
    assert OfficialSplitConfig().assign(given) == {"a": Split.TEST, "b": Split.TRAIN}
    with pytest.raises(ConfigError, match=r"first: c.*stratified"):
        OfficialSplitConfig().assign([*given, Person("c", True, "male", None)])


def test_a_split_is_chosen_by_kind_and_keeps_its_settings_in_the_record() -> None:
    config = validate(PrepareConfig, {"splits": {"kind": "stratified", "seed": 7}})
    assert config.to_json()["splits"] == {"kind": "stratified", "validation": 0.1, "test": 0.1, "seed": 7}
    with pytest.raises(ConfigError, match="kind='by_luck'"):
        validate(PrepareConfig, {"splits": {"kind": "by_luck"}})
