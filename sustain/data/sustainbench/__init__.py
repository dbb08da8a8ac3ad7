"""Readers of SustainBench's published files, one module a source."""
