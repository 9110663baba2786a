"""What is in a corpus, and what is wrong with it: read from manifests, shown on the terminal and as one HTML file."""
