"""Epoch plans: what is shown how often, whatever the people and their clips."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodscale.train.config import ClassWeighting, SamplingConfig
from moodscale.train.sampling import ExampleIndex, class_weights, num_steps, plan_epoch, rank_slice

NATURAL = SamplingConfig()
BY_CLASS = SamplingConfig(class_balanced=True)
BY_SPEAKER = SamplingConfig(speaker_balanced=True)
BY_BOTH = SamplingConfig(class_balanced=True, speaker_balanced=True)


def clips(**people: int) -> ExampleIndex:
    """``clips(a=3, D_b=5)``: a has three clips, b five and is depressed; the rows of people alternate."""
    rows = [(name, name.startswith("D_")) for name, count in people.items() for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(rows))
    return ExampleIndex(np.array([rows[i][0] for i in order]), np.array([rows[i][1] for i in order], dtype=np.int8))


UNEVEN = clips(a=10, b=30, c=20, D_x=4, D_y=16)


def shown_by_person(index: ExampleIndex, plan: np.ndarray) -> Counter[str]:
    return Counter(index.persons[plan].tolist())


def shown_depressed(index: ExampleIndex, plan: np.ndarray) -> int:
    return int(index.strata[plan].sum())


def test_natural_sampling_shows_each_clip_once() -> None:
    plan = plan_epoch(UNEVEN, NATURAL, seed=0, epoch=0)
    assert sorted(plan) == list(range(len(UNEVEN)))


def test_class_balanced_shows_both_classes_equally_and_people_by_their_clips() -> None:
    plan = plan_epoch(UNEVEN, BY_CLASS, seed=0, epoch=0)
    assert len(plan) == 80
    assert shown_depressed(UNEVEN, plan) == 40
    assert shown_by_person(UNEVEN, plan) == {"D_x": 8, "D_y": 32, "a": 7, "b": 20, "c": 13}


def test_speaker_balanced_shows_every_person_equally() -> None:
    plan = plan_epoch(UNEVEN, BY_SPEAKER, seed=0, epoch=0)
    assert shown_by_person(UNEVEN, plan) == dict.fromkeys(("a", "b", "c", "D_x", "D_y"), 16)


def test_both_balance_people_within_each_class() -> None:
    plan = plan_epoch(UNEVEN, BY_BOTH, seed=0, epoch=0)
    counts = shown_by_person(UNEVEN, plan)
    assert shown_depressed(UNEVEN, plan) == 40
    assert counts["D_x"] == counts["D_y"] == 20
    assert sorted(counts[name] for name in "abc") == [13, 13, 14]


def test_a_repeated_person_shows_each_clip_as_often_as_any_other() -> None:
    for epoch in range(3):
        plan = plan_epoch(UNEVEN, BY_BOTH, seed=0, epoch=epoch)
        for person in ("D_x", "a", "b"):
            own = np.flatnonzero(UNEVEN.persons == person)
            times = [int((plan == row).sum()) for row in own]
            assert max(times) - min(times) <= 1


def test_one_class_alone_is_shown_as_it_is() -> None:
    index = clips(a=3, b=5)
    assert sorted(plan_epoch(index, BY_CLASS, seed=0, epoch=0)) == list(range(8))


def test_at_most_k_clips_a_speaker_sum_to_what_the_paper_counts() -> None:
    """The paper's 2,481 is such a sum, Σ min(nᵢ, k)."""
    capped = SamplingConfig(max_clips_per_speaker=12)
    plan = plan_epoch(UNEVEN, capped, seed=0, epoch=0)
    assert len(plan) == 10 + 12 + 12 + 4 + 12
    assert len(set(plan.tolist())) == len(plan)
    assert shown_by_person(UNEVEN, plan) == {"a": 10, "b": 12, "c": 12, "D_x": 4, "D_y": 12}


def test_each_epoch_draws_the_capped_clips_afresh() -> None:
    capped = SamplingConfig(max_clips_per_speaker=12)
    own = set(np.flatnonzero(UNEVEN.persons == "b").tolist())
    draws = [set(plan_epoch(UNEVEN, capped, 0, epoch).tolist()) & own for epoch in range(12)]
    assert all(len(draw) == 12 for draw in draws)
    assert len({frozenset(draw) for draw in draws}) == 12
    assert set().union(*draws) == own, "over the epochs every clip is seen"


def test_a_cap_and_balance_combine() -> None:
    both = SamplingConfig(class_balanced=True, speaker_balanced=True, max_clips_per_speaker=4)
    plan = plan_epoch(UNEVEN, both, seed=0, epoch=0)
    assert len(plan) == 20, "the cap sets the epoch's length"
    assert shown_depressed(UNEVEN, plan) == 10
    for person in ("a", "b", "D_y"):
        assert len(set(plan[UNEVEN.persons[plan] == person].tolist())) <= 4


@pytest.mark.parametrize("sampling", [NATURAL, BY_CLASS, BY_SPEAKER, BY_BOTH])
def test_a_plan_follows_from_seed_and_epoch_alone(sampling: SamplingConfig) -> None:
    first = plan_epoch(UNEVEN, sampling, seed=1, epoch=2)
    np.random.seed(99)
    np.testing.assert_array_equal(first, plan_epoch(UNEVEN, sampling, seed=1, epoch=2))
    assert not np.array_equal(first, plan_epoch(UNEVEN, sampling, seed=2, epoch=2))
    assert not np.array_equal(first, plan_epoch(UNEVEN, sampling, seed=1, epoch=3))
    assert not np.array_equal(first, plan_epoch(UNEVEN, sampling, seed=2, epoch=1))


def test_the_order_does_not_group_people_or_classes() -> None:
    plan = plan_epoch(UNEVEN, BY_CLASS, seed=0, epoch=0)
    labels = UNEVEN.strata[plan]
    changes = int((labels[1:] != labels[:-1]).sum())
    assert 25 <= changes <= 55, "40 of each in random order change about 40 times"


def test_an_empty_split_says_where_to_look() -> None:
    with pytest.raises(ValueError, match="no examples; look at the manifest's summary"):
        plan_epoch(clips(), NATURAL, seed=0, epoch=0)


people_strategy = st.dictionaries(
    st.integers(0, 40).flatmap(lambda i: st.sampled_from([f"p{i}", f"D_p{i}"])),
    st.integers(1, 25),
    min_size=1,
    max_size=12,
)
sampling_strategy = st.builds(
    SamplingConfig,
    class_balanced=st.booleans(),
    speaker_balanced=st.booleans(),
    max_clips_per_speaker=st.none() | st.integers(1, 20),
)


@settings(max_examples=60, deadline=None)
@given(people=people_strategy, sampling=sampling_strategy, seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_any_plan_has_its_length_and_is_as_even_as_whole_numbers_allow(
    people: dict[str, int], sampling: SamplingConfig, seed: int, epoch: int
) -> None:
    index = clips(**people)
    plan = plan_epoch(index, sampling, seed, epoch)
    cap = sampling.max_clips_per_speaker
    assert len(plan) == sum(min(count, cap or count) for count in people.values())
    assert set(plan.tolist()) <= set(range(len(index)))
    counts = shown_by_person(index, plan)
    depressed = {name for name in people if name.startswith("D_")}
    if sampling.class_balanced and 0 < len(depressed) < len(people):
        # Quotas are whole numbers a person, so the classes' halves are kept up to one clip a person of a class.
        slack = min(len(depressed), len(people) - len(depressed))
        assert abs(shown_depressed(index, plan) - len(plan) / 2) <= slack
    if sampling.speaker_balanced:
        for group in (depressed, people.keys() - depressed) if sampling.class_balanced else (people.keys(),):
            quotas = [counts[name] for name in group]
            assert not quotas or max(quotas) - min(quotas) <= 1
    for name in people:
        times = Counter(row for row in plan.tolist() if index.persons[row] == name)
        assert not times or max(times.values()) - min(times.values()) <= 1


def test_no_weighting_weighs_nothing() -> None:
    assert class_weights(UNEVEN, ClassWeighting()) == (1.0, 1.0)


@pytest.mark.parametrize("scheme", ["inverse_frequency", "effective_number"])
def test_class_weights_average_to_one_over_the_clips(scheme: str) -> None:
    weights = class_weights(UNEVEN, ClassWeighting.model_validate({"scheme": scheme}))
    per_clip = np.take(weights, UNEVEN.strata)
    assert per_clip.mean() == pytest.approx(1.0)
    assert weights[1] > weights[0], "the rarer class weighs more"


def test_inverse_frequency_gives_both_classes_the_same_total() -> None:
    negative, positive = class_weights(UNEVEN, ClassWeighting(scheme="inverse_frequency"))
    assert 60 * negative == pytest.approx(20 * positive)


def test_effective_number_is_cui_et_als_formula() -> None:
    negative, positive = class_weights(UNEVEN, ClassWeighting(scheme="effective_number", beta=0.9))
    assert positive / negative == pytest.approx((1 - 0.9**60) / (1 - 0.9**20))


@pytest.mark.parametrize("scheme", ["inverse_frequency", "effective_number"])
def test_one_class_alone_is_not_weighted(scheme: str) -> None:
    assert class_weights(clips(a=4), ClassWeighting.model_validate({"scheme": scheme})) == (1.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(world=st.integers(1, 5), micro=st.integers(1, 5), accumulation=st.integers(1, 5), data=st.data())
def test_ranks_share_a_batch_without_gap_or_overlap(
    world: int, micro: int, accumulation: int, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, world * micro * accumulation))
    slices = [rank_slice(rows, rank, world, micro, accumulation) for rank in range(world)]
    assert all([len(part) for part in own] == [micro] * accumulation for own in slices), "equally many calls a rank"
    positions = [position for own in slices for part in own for position in part]
    assert sorted(positions) == list(range(world * micro * accumulation))


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (8, 1), (9, 2), (16, 2), (7244, 906)])
def test_the_last_short_step_counts(rows: int, steps: int) -> None:
    assert num_steps(rows, 8) == steps


LONG_AND_SHORT = ExampleIndex(
    np.array([f"p{number}" for number in range(103)]),
    np.zeros(103, dtype=np.int8),
    lengths=np.random.default_rng(1).lognormal(5, 1, 103),
)
BUCKETED = SamplingConfig(length_buckets=8)


def spread(plan: np.ndarray) -> float:
    """Mean ratio of a batch's padded size to what it holds."""
    lengths = LONG_AND_SHORT.lengths
    assert lengths is not None
    batches = [lengths[plan[i : i + 8]] for i in range(0, len(plan), 8)]
    return sum(float(batch.max() * len(batch)) for batch in batches) / float(lengths.sum())


def test_length_buckets_show_everybody_once_with_less_padding_and_a_short_batch_last() -> None:
    plain = plan_epoch(LONG_AND_SHORT, NATURAL, seed=0, epoch=0, effective_batch=8)
    plan = plan_epoch(LONG_AND_SHORT, BUCKETED, seed=0, epoch=0, effective_batch=8)
    assert sorted(plan) == list(range(103))
    assert spread(plan) < 0.6 * spread(plain)
    assert not np.array_equal(plan, plan_epoch(LONG_AND_SHORT, BUCKETED, seed=0, epoch=1, effective_batch=8))
    longest = [float(LONG_AND_SHORT.lengths[plan[i : i + 8]].max()) for i in range(0, 96, 8)]  # type: ignore[index]
    assert longest != sorted(longest), "batches come in random order"


def test_length_buckets_balance_as_they_would_without() -> None:
    index = ExampleIndex(UNEVEN.persons, UNEVEN.strata, lengths=np.arange(len(UNEVEN)))
    plan = plan_epoch(index, SamplingConfig(class_balanced=True, length_buckets=4), seed=0, epoch=0, effective_batch=8)
    assert shown_by_person(index, plan) == shown_by_person(UNEVEN, plan_epoch(UNEVEN, BY_CLASS, seed=0, epoch=0))


def test_classes_of_a_person_with_two_questionnaires_are_balanced_one_by_one() -> None:
    index = ExampleIndex(np.array(["a", "a", "b", "c"]), np.array([0, 4, 4, 4]), num_strata=5)
    plan = plan_epoch(index, SamplingConfig(class_balanced=True), seed=0, epoch=0)
    assert np.bincount(index.strata[plan], minlength=5).tolist() == [2, 0, 0, 0, 2]


def test_weights_of_five_bands_average_to_one_and_an_empty_band_does_no_harm() -> None:
    index = ExampleIndex(np.arange(6).astype(str), np.array([0, 0, 0, 1, 1, 3]), num_strata=5)
    weights = np.array(class_weights(index, ClassWeighting(scheme="inverse_frequency")))
    assert weights[index.strata].mean() == pytest.approx(1)
    assert weights[0] * 3 == pytest.approx(weights[1] * 2) == pytest.approx(weights[3])
    assert weights[2] == weights[4] == 1
