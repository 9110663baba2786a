"""What the readers of several corpora share: paths, archives, tables, turns, wav headers, label arithmetic."""
