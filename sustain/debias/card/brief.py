"""Parts of a card for the eye: long lists of numbers are counted, not printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["Brief"]

_MOST = 6  # numbers that are printed


class Brief:
    """Mixed into a pydantic model, whose ``repr``, plain or by rich, then has no long lists."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Give fields and their values; of a long list or mapping how many it has."""
        for name, value in super().__repr_args__():  # type: ignore[misc]  # pydantic's
            yield name, _brief(value)


def _brief(value: Any) -> Any:
    if not isinstance(value, list | tuple | dict):
        return value
    if len(value) > _MOST:
        return _Counted(f"[{len(value)} values]")
    return [_brief(item) for item in value] if isinstance(value, list) else value


class _Counted(str):
    def __repr__(self) -> str:
        return str(self)
