"""Names that are gone, and what takes their place."""

from __future__ import annotations

__all__ = ["NAMES", "RETIRED"]

_EFFECTS = (
    "Effects are read back through the response curve: ResponseCalibration, or build_card with methods=('linear', "
    "'response'), and estimate_effect(..., method='response'). For the cells of a map take 'linear'."
)

RETIRED = {"bridge": f"the bridge correction is gone. {_EFFECTS}"}
"""Methods that cards of earlier versions hold, and that are not applied any more."""

NAMES = {
    name: f"sustain.debias.{name} is gone. {_EFFECTS}" for name in ("BridgeCalibration", "bridge_correct")
}
"""Names that `sustain.debias` had."""
