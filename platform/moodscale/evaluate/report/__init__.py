"""The report a person reads: one HTML file that opens offline and asks nobody for anything."""
