"""Variances: which units count as dependent on each other."""
