"""Satellite wealth maps whose errors are known, and causal effects that hold."""

__version__ = "0.1.0"
