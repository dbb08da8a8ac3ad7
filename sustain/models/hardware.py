"""What a run computes on: asked for, present, and large enough."""

from __future__ import annotations

import torch

from sustain.errors import HardwareError

__all__ = ["is_out_of_memory", "require_devices", "torch_device"]


def require_devices(accelerator: str, devices: int) -> str:
    """Return ``cpu`` or ``gpu`` for what was asked.

    Parameters
    ----------
    accelerator : {"auto", "cpu", "gpu"}
        ``auto`` is the GPU where there is one.
    devices : int
        How many; on a CPU, processes.

    Raises
    ------
    HardwareError
        When a GPU was asked for and none, or too few, can be used.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "cpu" or (accelerator == "auto" and present == 0):
        return "cpu"
    if devices > present:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise HardwareError(
            f"{devices} GPU(s) asked for, but torch (built with {built}) sees {present}. Check the driver "
            "(nvidia-smi) and CUDA_VISIBLE_DEVICES, or set train.accelerator to cpu."
        )
    return "gpu"


def torch_device(accelerator: str) -> torch.device:
    """Return the torch device for predictions; raises as `require_devices`."""
    return torch.device("cuda" if require_devices(accelerator, 1) == "gpu" else "cpu")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device's, or the machine's, memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)
