"""Variances: which units count as dependent on each other."""

from sustain.causal.vcov.block_bootstrap import block_bootstrap, spatial_blocks
from sustain.causal.vcov.conley import conley_covariance, kernel_covariance
from sustain.causal.vcov.few_clusters import bias_reduced_covariance
from sustain.causal.vcov.vcov import TrialCovariance, Vcov

__all__ = [
    "TrialCovariance",
    "Vcov",
    "bias_reduced_covariance",
    "block_bootstrap",
    "conley_covariance",
    "kernel_covariance",
    "spatial_blocks",
]
