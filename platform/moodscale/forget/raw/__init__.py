"""Where a corpus keeps one person's raw data: one file a corpus, as in ``corpora/``, with a function ``raw_data``."""
