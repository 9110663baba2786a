"""A cap that is not passed."""

from __future__ import annotations

import pytest

from moodscale.config import ConfigError, validate
from moodscale.label.answer import Usage
from moodscale.label.money import Budget, Cost

WORST = Usage(1_000_000, 1_000_000)


def test_what_is_on_its_way_counts_as_spent_until_it_is_known() -> None:
    budget = Budget(Cost(input_per_million=1, output_per_million=2, max_cost=7))
    assert budget.reserve(WORST)
    assert budget.reserve(WORST)
    assert not budget.reserve(WORST), "3 + 3 + 3 could pass 7"
    budget.settle(WORST, Usage(500_000, 0))
    assert budget.reserve(WORST), "0.5 + 3 + 3 cannot"
    assert budget.spent == 0.5


def test_a_request_that_nobody_accounts_for_is_booked_whole() -> None:
    budget = Budget(Cost(input_per_million=1, output_per_million=2, max_cost=7))
    assert budget.reserve(WORST)
    budget.settle(WORST, None)
    assert budget.spent == 3
    assert not budget.anything_reserved


def test_without_a_cap_everything_may_be_spent() -> None:
    budget = Budget(Cost(input_per_million=1000, output_per_million=1000))
    assert all(budget.reserve(WORST) for _ in range(100))


def test_a_cap_without_prices_is_refused() -> None:
    with pytest.raises(ConfigError, match="input_per_million"):
        validate(Cost, {"max_cost": 5})
