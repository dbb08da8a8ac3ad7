"""Corrections judged on rows that they did not see."""
