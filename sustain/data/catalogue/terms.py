"""What the terms of the sources let one publish."""

from __future__ import annotations

from collections.abc import Iterable

from sustain.config import PublishParams
from sustain.data.catalogue.manifest import Manifest
from sustain.errors import ConfigError

__all__ = ["may_publish_coordinates"]


def may_publish_coordinates(params: PublishParams, manifests: Iterable[Manifest]) -> bool:
    """Say whether the published tables may hold the survey's coordinates and ids.

    Parameters
    ----------
    params : PublishParams
        Its ``coordinates`` asks for them (or not); None leaves it to the manifests.
    manifests : iterable of Manifest
        Of the sources that the tiles come from; none for your own tiles.

    Raises
    ------
    ConfigError
        When they are asked for, but a manifest does not say that its terms allow it.
    """
    asked = list(manifests)
    unallowed = [manifest.name for manifest in asked if not manifest.redistribute_coordinates]
    if params.coordinates and unallowed:
        raise ConfigError(
            f"publish.coordinates is true, but the terms of {', '.join(unallowed)} are not known to let coordinates be "
            "passed on (redistribute_coordinates in the manifest). Set publish.coordinates to false or leave it out."
        )
    return bool(asked) and not unallowed if params.coordinates is None else params.coordinates
