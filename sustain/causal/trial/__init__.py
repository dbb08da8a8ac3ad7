"""A trial as its team describes it: columns by their role, and the units that can be used."""

from sustain.causal.trial.roles import EstimatorName, Roles
from sustain.causal.trial.units import Units, read_units

__all__ = ["EstimatorName", "Roles", "Units", "read_units"]
