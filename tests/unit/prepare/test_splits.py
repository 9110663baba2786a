from __future__ import annotations

import random
from pathlib import Path

import pytest

from moodscale.config import ConfigError, validate
from moodscale.corpora.conversations import ConversationsConfig
from moodscale.prepare.build import build_manifest
from moodscale.prepare.config import PrepareConfig
from moodscale.prepare.manifest import Manifest
from moodscale.prepare.splits.base import Person
from moodscale.prepare.splits.file import FileSplitConfig
from moodscale.prepare.splits.kfold import KFoldSplitConfig
from moodscale.prepare.splits.leave_one_corpus_out import LeaveOneCorpusOutSplitConfig
from moodscale.prepare.splits.official import OfficialSplitConfig
from moodscale.prepare.splits.stratified import StratifiedSplitConfig
from moodscale.schema import Split
from tiny_chats import chat, label, write_log


def crowd(num: int, depressed_share: float = 0.3, seed: int = 0) -> list[Person]:
    draw = random.Random(seed)
    return [Person(f"daic:{300 + i}", i < depressed_share * num, draw.choice(["female", "male"])) for i in range(num)]


def official(key: str, depressed: bool, **splits: Split) -> Person:
    return Person(key, depressed, "male", tuple(sorted(splits)), splits)


def in_corpora(**sizes: int) -> list[Person]:
    """People of several corpora, two in five depressed; ``a_b`` are in both."""
    return [
        Person(f"{name}:{i}", i % 5 < 2, ("female", "male")[i % 2], tuple(name.split("_")))
        for name, size in sizes.items()
        for i in range(size)
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
    given = [official("a", True, daic=Split.TEST), official("b", False, daic=Split.TRAIN)]
    assert OfficialSplitConfig().assign(given) == {"a": Split.TEST, "b": Split.TRAIN}
    with pytest.raises(ConfigError, match=r"first: c.*stratified"):
        OfficialSplitConfig().assign([*given, Person("c", True, "male")])


def test_people_that_corpora_split_differently_go_where_the_named_one_says() -> None:
    given = [official("a", True, daic=Split.TEST, edaic=Split.TRAIN), official("b", False, edaic=Split.VALIDATION)]
    with pytest.raises(ConfigError, match=r"a is test in daic, train in edaic; name the corpus that decides"):
        OfficialSplitConfig().assign(given)
    assert OfficialSplitConfig(prefer="edaic").assign(given) == {"a": Split.TRAIN, "b": Split.VALIDATION}


def test_people_to_validate_on_are_taken_from_official_training_people_alone() -> None:
    given = [official(f"c{i}", i % 2 == 0, cmdc=Split.TEST if i < 10 else Split.TRAIN) for i in range(50)]
    assigned = OfficialSplitConfig(validation=0.2).assign(given)
    assert {key for key, split in assigned.items() if split is Split.TEST} == {f"c{i}" for i in range(10)}
    assert sum(split is Split.VALIDATION for split in assigned.values()) == 8


def test_every_person_is_tested_once_in_each_repeat_of_k_folds() -> None:
    people = in_corpora(a=60, b=25)
    for repeat in (0, 1):
        folds = [KFoldSplitConfig(fold=fold, repeat=repeat).assign(people) for fold in range(5)]
        tested = [[key for key, split in fold.items() if split is Split.TEST] for fold in folds]
        assert sorted(key for part in tested for key in part) == sorted(person.key for person in people)
        for fold, part in zip(folds, tested, strict=True):
            assert fold.keys() == {person.key for person in people}
            assert 16 <= len(part) <= 18
            assert 3 <= sum(key.startswith("b") for key in part) <= 7
            assert {person.depressed for person in people if fold[person.key] is Split.VALIDATION} == {False, True}
    assert KFoldSplitConfig(repeat=0).assign(people) != KFoldSplitConfig(repeat=1).assign(people)


def test_a_fold_that_does_not_exist_and_more_folds_than_people_of_a_class_are_refused() -> None:
    with pytest.raises(ConfigError, match="fold=5 of num_folds=5"):
        validate(PrepareConfig, {"splits": {"kind": "kfold", "fold": 5}})
    with pytest.raises(ConfigError, match="4 people are depressed, fewer than 5 folds"):
        KFoldSplitConfig().assign(in_corpora(a=10))


def test_the_corpus_held_out_is_tested_on_with_everybody_who_is_in_it_at_all() -> None:
    people = in_corpora(a=30, b=20, a_b=10)
    assigned = LeaveOneCorpusOutSplitConfig(held_out="b").assign(people)
    assert {key for key, split in assigned.items() if split is Split.TEST} == {
        person.key for person in people if "b" in person.corpora
    }
    assert sum(split is Split.VALIDATION for split in assigned.values()) == 3
    with pytest.raises(ConfigError, match=r"held_out=c is none of the corpora .* a, b"):
        LeaveOneCorpusOutSplitConfig(held_out="c").assign(people)
    with pytest.raises(ConfigError, match="nobody to train on"):
        LeaveOneCorpusOutSplitConfig(held_out="b").assign(in_corpora(b=20, a_b=10))


def test_a_file_decides_by_its_rows_and_not_by_where_it_lies(tmp_path: Path) -> None:
    people = [Person("a:1", True, "male"), Person("a:2", False, "female")]
    (tmp_path / "one.csv").write_text("person,split\na:1,train\na:2,test\nz:9,test\n")
    (tmp_path / "two.csv").write_text("split,person\ntest,z:9\ntest,a:2\ntrain,a:1\n")
    one, two = (FileSplitConfig(path=str(tmp_path / name)) for name in ("one.csv", "two.csv"))
    assert one.assign(people) == two.assign(people) == {"a:1": Split.TRAIN, "a:2": Split.TEST}
    assert one.content() == two.content()
    (tmp_path / "two.csv").write_text("split,person\ntest,a:2\ntest,a:1\n")
    assert one.content() != two.content()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a:1,train\n", r"2 labelled people are not in it \(first: a:2\)"),
        ("a:1,dev\n", "row 2: split is not one of train, validation, test"),
        ("a:1,train\na:1,test\n", "row 3: a:1 is in two splits"),
    ],
)
def test_a_file_that_cannot_decide_is_refused_by_row(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("person,split\n" + rows)
    with pytest.raises(ConfigError, match=message):
        FileSplitConfig(path=str(path)).assign([Person(f"a:{i}", True, "male") for i in (1, 2, 3)])
    path.unlink()
    with pytest.raises(ConfigError, match=r"splits.csv"):
        FileSplitConfig(path=str(path)).assign([])


def test_a_split_is_chosen_by_kind_and_keeps_its_settings_in_the_record() -> None:
    config = validate(PrepareConfig, {"splits": {"kind": "stratified", "seed": 7}})
    assert config.to_json()["splits"] == {"kind": "stratified", "validation": 0.1, "test": 0.1, "seed": 7}
    with pytest.raises(ConfigError, match="kind='by_luck'"):
        validate(PrepareConfig, {"splits": {"kind": "by_luck"}})


def test_interviews_that_are_only_scored_are_in_no_split_and_nobody_with_a_label_is_among_them(tmp_path: Path) -> None:
    settings = validate(PrepareConfig, {"transcripts": "as_is", "splits": {"kind": "none"}})
    unlabelled = write_log(tmp_path / "new", [chat("u1", "c1"), chat("u2", "c2")], None)
    corpus = ConversationsConfig(path=str(unlabelled), labels=None)
    build_manifest(corpus, settings, tmp_path / "manifest")
    found = Manifest.open(tmp_path / "manifest")
    assert found.without_labels("interviews")["split"].to_pylist() == [None, None]
    assert len(found.unlabelled()) == 2
    labelled = ConversationsConfig(path=str(write_log(tmp_path / "old", [chat("u1", "c1")], [label("u1")])))
    with pytest.raises(ConfigError, match="1 people have a label"):
        build_manifest(labelled, settings, tmp_path / "refused")
