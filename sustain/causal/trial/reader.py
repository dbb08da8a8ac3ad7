"""Reads every column that is passed to a trial."""

from __future__ import annotations

from sustain.errors import EffectError
from sustain.stats.columns import ColumnReader

__all__ = ["read"]

read = ColumnReader(EffectError)
