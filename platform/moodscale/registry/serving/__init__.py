"""How registered models answer: one file a kind, found by the field ``serving`` of a package."""
