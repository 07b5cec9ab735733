"""One short file for each figure or table of the two studies."""
