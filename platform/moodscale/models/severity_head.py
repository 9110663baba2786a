"""From hidden states to a questionnaire's total: pooling, a head whose answers stay in range, and its losses.

Everything here computes in fp32, whatever the engine keeps the weights in. Shape suffixes: B examples, W windows of all
of them, T positions, D width, I items, K thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Target = Literal["total", "items"]
Loss = Literal["mse", "huber", "ordinal"]
MAX_ITEM = 3


class Linear32(nn.Linear):
    """A linear that computes in fp32 from weights of any precision."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.float()
        return functional.linear(input.float(), self.weight.float(), bias)


class Thresholds(nn.Module):
    """Cumulative logits of one answer: z - b_k, with b_1 < b_2 < … by construction (cumulative link model)."""

    def __init__(self, num_answers: int, num_thresholds: int) -> None:
        super().__init__()
        # Evenly spaced from -2 to 2: at z = 0 the expected value is the middle of the range.
        step = 4.0 / max(1, num_thresholds - 1)
        raw = math.log(math.expm1(step))  # softplus(raw) = step
        self.first = nn.Parameter(torch.full((num_answers, 1), -2.0 if num_thresholds > 1 else 0.0))
        self.steps = nn.Parameter(torch.full((num_answers, num_thresholds - 1), raw))

    def forward(self, latent_BI: torch.Tensor) -> torch.Tensor:
        """``[B, I]`` → ``[B, I, K]``, the logits of P(answer > k) for k = 0 … K - 1, which never rise with k."""
        first_I1 = self.first.float()
        rest = first_I1 + functional.softplus(self.steps.float()).cumsum(-1)
        return latent_BI[..., None] - torch.cat([first_I1, rest], dim=-1)


@dataclass(frozen=True)
class Answers:
    """What a head says, in points of the questionnaire.

    Attributes:
        total_B: 0 to the instrument's maximum.
        items_BI: 0 to 3 each, where items are predicted; the total is their sum.
        logits_BIK: of P(answer > k), where the loss is ordinal; I is 1 where the total is predicted.
    """

    total_B: torch.Tensor
    items_BI: torch.Tensor | None = None
    logits_BIK: torch.Tensor | None = None


class SeverityHead(nn.Module):
    """Pooled vectors → answers within the instrument's range by construction.

    ``max · sigmoid(z)`` rather than a plain linear that is clipped: a clipped prediction outside the range has no
    gradient and never comes back, and an unclipped one of -3 points is an answer that nobody can give. The price is
    that 0 and the maximum are approached and never reached. The ordinal head's expected value Σ P(> k) has the same
    range for the same reason.

    The pooled vector is standardised first (no parameters): backbones differ by orders of magnitude in the scale of
    their hidden states, and one learning rate has to do for all.
    """

    def __init__(
        self,
        width: int,
        num_items: int,
        target: Target,
        ordinal: bool,
        pools_windows: bool,
        init_seed: int,
        initial_total: float | None = None,
    ) -> None:
        super().__init__()
        self.width, self.num_items, self.target, self.ordinal = width, num_items, target, ordinal
        self.max_answer = MAX_ITEM if target == "items" else MAX_ITEM * num_items
        num_answers = num_items if target == "items" else 1
        self.output = Linear32(width, num_answers)
        self.thresholds = Thresholds(num_answers, self.max_answer) if ordinal else None
        self.attention = Linear32(width, 1) if pools_windows else None
        if self.output.weight.is_meta:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(init_seed)
            nn.init.normal_(self.output.weight, std=0.1 / width**0.5)
        nn.init.zeros_(self.output.bias)
        if self.attention is not None:  # all windows alike at first: their mean
            nn.init.zeros_(self.attention.weight)
            nn.init.zeros_(self.attention.bias)
        if initial_total is not None:
            self._start_at(initial_total / (MAX_ITEM * num_items))

    @torch.no_grad()
    def _start_at(self, share: float) -> None:
        """Set the bias so that an average vector gets ``share`` of the maximum."""
        if self.thresholds is None:
            self.output.bias.fill_(torch.logit(torch.tensor(share)).item())
            return
        low, high = -20.0, 20.0
        for _ in range(60):  # the expected value rises with z: halve the interval
            middle = (low + high) / 2
            logits = self.thresholds(torch.full((1, self.output.out_features), middle))
            low, high = (middle, high) if logits.sigmoid().mean() < share else (low, middle)
        self.output.bias.fill_(middle)

    def forward(self, hidden_WTD: torch.Tensor, mask_WT: torch.Tensor, num_windows_B: torch.Tensor) -> Answers:
        """Pool and answer.

        Args:
            mask_WT: 1 where there is a token. Pooling goes by it, never by position: what padding holds is not read.
            num_windows_B: how many of the W windows are each example's, in order.
        """
        vectors_WD = mean_over_tokens(hidden_WTD, mask_WT)
        pooled_BD = self._pool_windows(vectors_WD, num_windows_B)
        latent_BI = self.output(functional.layer_norm(pooled_BD, (self.width,)))
        if self.thresholds is None:
            answers_BI = self.max_answer * latent_BI.sigmoid()
            logits_BIK = None
        else:
            logits_BIK = self.thresholds(latent_BI)
            answers_BI = logits_BIK.sigmoid().sum(-1)
        items_BI = answers_BI if self.target == "items" else None
        return Answers(answers_BI.sum(-1), items_BI, logits_BIK)

    def _pool_windows(self, vectors_WD: torch.Tensor, num_windows_B: torch.Tensor) -> torch.Tensor:
        """Learned attention over each example's windows: softmax of a linear score, then the weighted sum."""
        if self.attention is None:
            return vectors_WD
        num = len(num_windows_B)
        example_W = torch.repeat_interleave(
            torch.arange(num, device=vectors_WD.device), num_windows_B, output_size=len(vectors_WD)
        )
        score_W = self.attention(functional.layer_norm(vectors_WD, (self.width,)))[:, 0]
        largest_B = score_W.new_full((num,), -torch.inf).scatter_reduce(0, example_W, score_W.detach(), "amax")
        weight_W = (score_W - largest_B[example_W]).exp()
        total_B = weight_W.new_zeros(num).index_add(0, example_W, weight_W)
        weight_W = weight_W / total_B[example_W]
        return vectors_WD.new_zeros(num, vectors_WD.shape[1]).index_add(0, example_W, weight_W[:, None] * vectors_WD)


def mean_over_tokens(hidden_WTD: torch.Tensor, mask_WT: torch.Tensor) -> torch.Tensor:
    """``[W, D]`` in fp32; a window without a token gives zeros."""
    # Not a product with the mask: what padding holds may be no number, and 0 · nan is nan.
    kept_WTD = hidden_WTD.float().masked_fill(mask_WT[..., None] == 0, 0.0)
    return kept_WTD.sum(1) / mask_WT.sum(1, keepdim=True).clamp(min=1)


def ordinal_loss(logits_K: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Σ_k of the binary cross-entropies of "more than k points", over the last dimension.

    An answer that is no whole number (a model gave it) is more than ⌊answer⌋ points by its fraction.
    """
    thresholds_K = torch.arange(logits_K.shape[-1], device=logits_K.device, dtype=torch.float32)
    exceeds_K = (answer[..., None] - thresholds_K).clamp(0.0, 1.0)
    return functional.binary_cross_entropy_with_logits(logits_K, exceeds_K, reduction="none").sum(-1)


def distance(predicted: torch.Tensor, answer: torch.Tensor, loss: Loss, huber_delta: float) -> torch.Tensor:
    """Squared error, or Huber's: ½ e² up to ``huber_delta``, δ (|e| - ½ δ) beyond. Ordinal falls back on Huber's."""
    if loss == "mse":
        return (predicted - answer) ** 2
    return functional.huber_loss(predicted, answer, reduction="none", delta=huber_delta)


def severity_loss(
    answers: Answers,
    targets_total_B: torch.Tensor,
    targets_items_BI: torch.Tensor,
    targets_item_mask_BI: torch.Tensor,
    loss: Loss,
    huber_delta: float,
) -> torch.Tensor:
    """Each example's loss ``[B]``, fp32.

    Where items are predicted it is the total's loss and that of every known item: the total is known for everybody,
    so people without item answers teach too. The sum of items has no thresholds, so with the ordinal loss the total's
    part is Huber's.
    """
    if answers.items_BI is None:
        if answers.logits_BIK is not None:
            return ordinal_loss(answers.logits_BIK[:, 0], targets_total_B)
        return distance(answers.total_B, targets_total_B, loss, huber_delta)
    if answers.logits_BIK is not None:
        items_BI = ordinal_loss(answers.logits_BIK, targets_items_BI)
    else:
        items_BI = distance(answers.items_BI, targets_items_BI, loss, huber_delta)
    of_total_B = distance(answers.total_B, targets_total_B, loss, huber_delta)
    return of_total_B + (items_BI * targets_item_mask_BI).sum(-1)
