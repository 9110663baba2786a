"""Why workers failed, in a line a person can act on: kinds and first lines, never a traceback's worth."""

from __future__ import annotations

from collections.abc import Mapping

MAX_RANKS = 3
_MAX_TEXT = 400
_CONSEQUENCES = ("connection closed by peer", "connection reset", "gloo", "nccl", "broken pipe")
"""What ranks say whose neighbour died: never the first cause while another rank says something else."""


class TrainingFailedError(RuntimeError):
    """The workers failed more often than allowed. The message names the first cause; what was committed is kept."""


def describe(failures: Mapping[int, BaseException]) -> str:
    """Failures by rank, causes before consequences, on one line.

    Args:
        failures: what each rank's worker ended with, as Ray Train reports it.
    """
    if not failures:
        return "no worker said why"
    told = {rank: _first_line(error) for rank, error in failures.items()}
    ordered = sorted(told, key=lambda rank: (_is_consequence(told[rank]), rank))
    shown = "; ".join(f"rank {rank}: {told[rank]}" for rank in ordered[:MAX_RANKS])
    left = len(ordered) - MAX_RANKS
    return shown if left <= 0 else f"{shown}; and {left} more ranks"


def _first_line(error: BaseException) -> str:
    # Ray wraps what a training function raised, and what its health check met.
    inner = getattr(error, "_base_exc", None) or getattr(error, "health_check_failure", None) or error
    lines = str(inner).strip().splitlines()
    text = next((line.strip() for line in lines if line.strip()), "")
    return f"{type(inner).__name__}: {text[:_MAX_TEXT]}" if text else type(inner).__name__


def _is_consequence(text: str) -> bool:
    return any(word in text.lower() for word in _CONSEQUENCES)
