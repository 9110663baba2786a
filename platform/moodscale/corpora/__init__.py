"""Files on disk → Interviews, one file a corpus."""
