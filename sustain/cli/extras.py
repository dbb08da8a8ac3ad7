"""What to install where a command needs a package that the base install leaves out."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

__all__ = ["advice"]

_REQUIREMENT = re.compile(r"""^([A-Za-z0-9._-]+).*\bextra\s*==\s*["']([a-z]+)["']""")


def advice(error: ModuleNotFoundError) -> str | None:
    """Say which extra of this package brings a missing module; None where it is none of its modules.

    The packages of each extra are read from this package's own metadata.
    """
    parts = (error.name or "").lower().replace("_", "-").split(".")
    names = {"-".join(parts[:count]) for count in range(1, len(parts) + 1)}  # odc.stac is odc-stac
    try:
        lines = requires("sustain") or []
    except PackageNotFoundError:
        return None
    for line in lines:
        found = _REQUIREMENT.match(line)
        if found and re.sub(r"[._]", "-", found[1].lower()) in names:
            return (
                f"this command needs {found[1]}, which the base install leaves out. "
                f"Install it with: pip install 'sustain[{found[2]}]' (in a clone: pip install -e '.[{found[2]}]')"
            )
    return None
