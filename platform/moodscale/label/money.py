"""What labelling may cost: a cap that holds before it is reached, whatever is still on its way."""

from __future__ import annotations

from pydantic import Field, model_validator

from moodscale.config import Config
from moodscale.label.answer import Usage


class Cost(Config):
    """Prices, in one currency, and how much may be spent in a run."""

    input_per_million: float = Field(default=0.0, ge=0, description="price of a million input tokens")
    output_per_million: float = Field(default=0.0, ge=0, description="price of a million output tokens")
    max_cost: float | None = Field(
        default=None, gt=0, description="stop before a run can have cost more; what is labelled by then is kept"
    )

    @model_validator(mode="after")
    def _has_prices(self) -> Cost:
        if self.max_cost is not None and not (self.input_per_million and self.output_per_million):
            raise ValueError(
                f"max_cost={self.max_cost:g} caps nothing without prices: set input_per_million and output_per_million"
            )
        return self

    def of(self, usage: Usage) -> float:
        return (usage.input_tokens * self.input_per_million + usage.output_tokens * self.output_per_million) / 1e6


class Budget:
    """Money spent, and held back for requests whose price is not known yet."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self.spent = 0.0
        self._reserved = 0.0
        self._num_reserved = 0

    @property
    def anything_reserved(self) -> bool:
        """Whether a request is on its way that may leave money over."""
        return self._num_reserved > 0

    def reserve(self, worst: Usage) -> bool:
        """Hold back what a request may cost at most; ``False`` where that could pass the cap."""
        price = self._cost.of(worst)
        cap = self._cost.max_cost
        if cap is not None and self.spent + self._reserved + price > cap:
            return False
        self._reserved += price
        self._num_reserved += 1
        return True

    def settle(self, worst: Usage, used: Usage | None) -> None:
        """Give back what was held and book what was used; all of it where nobody can say (``None``)."""
        self._num_reserved -= 1
        self._reserved = max(0.0, self._reserved - self._cost.of(worst)) if self._num_reserved else 0.0
        self.spent += self._cost.of(worst if used is None else used)
