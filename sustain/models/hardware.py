"""What a run computes on: asked for, present, and large enough."""

from __future__ import annotations

import warnings

import torch

from sustain.config import TrainParams
from sustain.errors import HardwareError, HardwareWarning

__all__ = ["is_out_of_memory", "require_devices", "torch_device", "with_precision_there_is"]


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


def with_precision_there_is(params: TrainParams) -> TrainParams:
    """Return the parameters with the precision that training will have: on a CPU it is float32, whatever was asked.

    On a CPU with units for bfloat16 (AMX) about half of the trainings in bfloat16 diverged, and none where oneDNN was
    kept from using these units; most other CPUs are very slow at it.

    Raises
    ------
    HardwareError
        As `require_devices`.

    Warns
    -----
    HardwareWarning
        When bfloat16 was asked for, and float32 is what there is.
    """
    accelerator = require_devices(params.accelerator, params.devices)
    if accelerator == "gpu" or params.precision == "float32":
        return params
    warnings.warn(
        f"train.precision is {params.precision}, which is for GPUs; this training runs on a CPU, in float32. "
        "model.json says so.",
        HardwareWarning,
        stacklevel=3,
    )
    return params.model_copy(update={"precision": "float32"})


def torch_device(accelerator: str) -> torch.device:
    """Return the torch device for predictions; raises as `require_devices`."""
    return torch.device("cuda" if require_devices(accelerator, 1) == "gpu" else "cpu")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device's, or the machine's, memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)
