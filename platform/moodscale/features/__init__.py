"""Features as a job: recordings and feature files → a store of windows that any recipe reads from."""
