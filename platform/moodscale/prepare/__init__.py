"""Interviews → clips, splits, a manifest in Parquet."""
