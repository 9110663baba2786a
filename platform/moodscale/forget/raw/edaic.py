"""E-DAIC lies as DAIC-WOZ does."""

from __future__ import annotations

from moodscale.forget.raw.daic_woz import raw_data

__all__ = ["raw_data"]
