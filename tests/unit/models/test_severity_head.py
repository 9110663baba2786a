"""Pooling by mask, answers in range, and losses against hand computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from moodscale.models.severity_head import Answers, SeverityHead, mean_over_tokens, ordinal_loss, severity_loss


def head(target: str = "total", ordinal: bool = False, **changes: Any) -> SeverityHead:
    values: dict[str, Any] = {"width": 6, "num_items": 9, "pools_windows": False, "init_seed": 0}
    return SeverityHead(target=target, ordinal=ordinal, **values | changes)  # type: ignore[arg-type]


def answer(made: SeverityHead, hidden: torch.Tensor, counts: list[int] | None = None) -> Answers:
    mask = torch.ones(hidden.shape[:2], dtype=torch.long)
    found = made(hidden, mask, torch.tensor(counts or [1] * len(hidden)))
    assert isinstance(found, Answers)
    return found


def test_pooling_is_the_mean_of_valid_tokens_wherever_padding_stands() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[100.0], [1.0], [3.0]], [[7.0], [8.0], [9.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    assert mean_over_tokens(hidden, mask).tolist() == [[2.0], [2.0], [0.0]]


def test_padding_that_is_no_number_is_not_read() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [math.nan]]], requires_grad=True)
    pooled = mean_over_tokens(hidden, torch.tensor([[1, 1, 0]]))
    pooled.sum().backward()
    assert pooled.item() == 2.0
    assert hidden.grad is not None
    assert hidden.grad.flatten().tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("ordinal", [False, True])
@pytest.mark.parametrize(("target", "num_items"), [("total", 8), ("total", 9), ("items", 8), ("items", 9)])
def test_answers_stay_within_the_instruments_range_whatever_the_weights(
    target: str, num_items: int, ordinal: bool
) -> None:
    made = head(target, ordinal, num_items=num_items)
    for scale in (1.0, 1e3, -1e3):
        with torch.no_grad():
            made.output.weight.fill_(scale)
            made.output.weight[:, 0] = -scale
        found = answer(made, torch.randn(16, 3, 6, generator=torch.Generator().manual_seed(0)) * 10)
        assert found.total_B.min() >= 0
        assert found.total_B.max() <= 3 * num_items
        if target == "items":
            assert found.items_BI is not None
            assert found.items_BI.shape == (16, num_items)
            assert 0 <= found.items_BI.min() <= found.items_BI.max() <= 3
            torch.testing.assert_close(found.items_BI.sum(-1), found.total_B)


def test_cumulative_probabilities_never_rise_with_the_threshold_however_trained() -> None:
    made = head(ordinal=True)
    assert made.thresholds is not None
    with torch.no_grad():
        made.thresholds.steps.normal_(std=5)
    found = answer(made, torch.randn(4, 2, 6))
    assert found.logits_BIK is not None
    assert found.logits_BIK.shape == (4, 1, 27)
    assert (found.logits_BIK.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(found.logits_BIK.sigmoid().sum((1, 2)), found.total_B)


@pytest.mark.parametrize("ordinal", [False, True])
@pytest.mark.parametrize("target", ["total", "items"])
def test_an_untrained_head_answers_the_initial_total(target: str, ordinal: bool) -> None:
    made = head(target, ordinal, initial_total=7.0)
    with torch.no_grad():
        made.output.weight.zero_()
    assert answer(made, torch.randn(1, 2, 6)).total_B.item() == pytest.approx(7.0, abs=1e-3)


def test_the_seed_alone_decides_the_first_weights() -> None:
    torch.manual_seed(1)
    first = head(init_seed=5)
    torch.manual_seed(2)
    assert torch.equal(first.output.weight, head(init_seed=5).output.weight)
    assert not torch.equal(first.output.weight, head(init_seed=6).output.weight)


def test_windows_begin_as_their_mean_and_attention_can_choose_one() -> None:
    made = head(pools_windows=True)
    hidden = torch.randn(3, 2, 6)
    vectors = hidden.mean(1)
    pooled = made._pool_windows(vectors, torch.tensor([2, 1]))
    torch.testing.assert_close(pooled, torch.stack([vectors[:2].mean(0), vectors[2]]))
    assert made.attention is not None
    with torch.no_grad():
        made.attention.weight.copy_((vectors[1] - vectors[0])[None] * 1e4)
    torch.testing.assert_close(made._pool_windows(vectors, torch.tensor([2, 1]))[0], vectors[1])


def test_attention_over_windows_is_learned() -> None:
    made = head(pools_windows=True)
    answer(made, torch.randn(3, 2, 6), [2, 1]).total_B.sum().backward()
    assert made.attention is not None
    assert made.attention.weight.grad is not None
    assert made.attention.weight.grad.abs().sum() > 0


def test_it_computes_in_fp32_from_16_bit_weights() -> None:
    made = head("items", ordinal=True, pools_windows=True).to(torch.bfloat16)
    found = answer(made, torch.randn(2, 3, 6).to(torch.bfloat16))
    assert found.total_B.dtype == torch.float32


# --- losses -----------------------------------------------------------------------------------------------------------


def losses(answers: Answers, totals: list[float], kind: str = "mse", delta: float = 2.0, **items: Any) -> list[float]:
    nothing = torch.zeros(len(totals), 2)
    found = severity_loss(
        answers,
        torch.tensor(totals),
        items.get("items", nothing),
        items.get("known", nothing),
        kind,  # type: ignore[arg-type]
        delta,
    )
    return [round(value, 4) for value in found.tolist()]


def test_squared_error_by_hand() -> None:
    assert losses(Answers(torch.tensor([5.0, 9.0])), [7.0, 9.0]) == [4.0, 0.0]


def test_hubers_loss_by_hand() -> None:
    # 1/2 · 1² within delta = 2; 2 · (5 - 1/2 · 2) beyond.
    assert losses(Answers(torch.tensor([8.0, 12.0])), [7.0, 7.0], "huber") == [0.5, 8.0]


def test_ordinal_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    # An answer of 2 is more than 0 and more than 1, and not more than 2.
    expected = math.log(1 + math.exp(-2)) + math.log(2) + math.log(1 + math.exp(-1))
    assert ordinal_loss(logits, torch.tensor([2.0])).item() == pytest.approx(expected, abs=1e-5)
    # 1.25 is more than 1 by a quarter: a quarter of both answers' losses (equal here) is as good as one of them.
    quarter = math.log(1 + math.exp(-2)) + math.log(2) + math.log(1 + math.exp(-1))
    assert ordinal_loss(logits, torch.tensor([1.25])).item() == pytest.approx(quarter, abs=1e-5)
    none = math.log(1 + math.exp(2)) + math.log(2) + math.log(1 + math.exp(-1))
    assert ordinal_loss(logits, torch.tensor([0.0])).item() == pytest.approx(none, abs=1e-5)


def test_the_ordinal_total_uses_its_thresholds() -> None:
    logits = torch.tensor([[[2.0, 0.0, -1.0]]])
    answers = Answers(logits.sigmoid().sum((1, 2)), None, logits)
    expected = ordinal_loss(logits[:, 0], torch.tensor([2.0])).item()
    assert losses(answers, [2.0], "ordinal") == [round(expected, 4)]


def test_unknown_items_teach_nothing_and_the_total_always_does() -> None:
    answers = Answers(torch.tensor([4.0, 4.0]), items_BI=torch.tensor([[1.0, 3.0], [1.0, 3.0]]))
    known = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found = losses(answers, [6.0, 6.0], items=torch.tensor([[3.0, 0.0], [0.0, 0.0]]), known=known)
    assert found == [4.0 + 4.0, 4.0]
