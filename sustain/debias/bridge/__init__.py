"""The bridge: a correction by moments of the truth."""
