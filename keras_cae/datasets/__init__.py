"""Data sets: the embedded digits, and how prepared data sets are found and opened."""
