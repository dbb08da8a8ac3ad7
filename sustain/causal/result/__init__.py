"""What an effect says: the estimate, its caveats, and what would overturn it."""

from sustain.causal.result.estimates import EffectEstimates, Product
from sustain.causal.result.result import EffectResult
from sustain.causal.result.sensitivity import Sensitivity

__all__ = ["EffectEstimates", "EffectResult", "Product", "Sensitivity"]
