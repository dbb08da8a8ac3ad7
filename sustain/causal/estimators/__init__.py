"""Designs as estimators that are linear in the outcome."""
