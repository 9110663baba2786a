"""One extractor a file; ``kind:`` finds it by its file name."""
