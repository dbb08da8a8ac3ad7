"""Opening imagery, whatever names it: one raster, several as one, or STAC items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sustain.config import MapParams
from sustain.errors import ConfigError
from sustain.maps.geotiff import open_raster
from sustain.maps.imagery.bands import Imagery
from sustain.maps.imagery.lattice import Outline, choose_lattice
from sustain.maps.imagery.mosaic import Mosaic
from sustain.maps.imagery.scene import Scene
from sustain.maps.imagery.stac_scene import StacImagery
from sustain.maps.remote import is_stac

__all__ = ["open_imagery"]


@contextmanager
def open_imagery(
    scene: str | Path | Sequence[str | Path] | Mosaic, imagery: Imagery, params: MapParams | None = None
) -> Iterator[Scene | Mosaic]:
    """Open imagery, and close it at the end.

    Parameters
    ----------
    scene : str or Path, a sequence of them, or Mosaic
        A raster, several as one, or STAC items (JSON files or addresses; `sustain.maps.imagery.stac_scene`). A
        mosaic that holds no open file is passed on.
    imagery : Imagery
        What the model expects.
    params : MapParams, optional
        With ``crs``, rasters are reprojected to one grid; without it they must have the model's pixels, on one grid.
        STAC items are always brought to one grid, by default of a coordinate system that fits them.

    Yields
    ------
    Scene or Mosaic

    Raises
    ------
    ConfigError
        When there are no scenes, or rasters and STAC items are mixed.
    RasterError, FileFormatError, DownloadError
        When a scene does not fit the model, or cannot be opened.
    """
    if isinstance(scene, Mosaic):
        yield scene
        return
    places = [scene] if isinstance(scene, str | Path) else list(scene)
    if not places:
        raise ConfigError("scene: the list of scenes is empty. Pass at least one raster.")
    params = params or MapParams()
    n_stac = sum(map(is_stac, places))
    if n_stac:
        if n_stac < len(places):
            raise ConfigError(
                "scene: rasters and STAC items (JSON files, addresses) are mixed. Pass one kind, or describe the "
                "rasters by items too."
            )
        yield StacImagery(places, imagery, params.crs, params.resampling, params.stac_bands)
        return
    with ExitStack() as stack:
        lattice = None
        if params.crs is not None:
            lattice = choose_lattice(
                [_outline(place) for place in places], params.crs, imagery.pixel_m, params.resampling
            )
        scenes = [stack.enter_context(Scene(place, imagery, lattice)) for place in places]
        yield scenes[0] if isinstance(scene, str | Path) else Mosaic(scenes, imagery)


def _outline(path: str | Path) -> Outline:
    with open_raster(path) as dataset:
        return Outline.of(str(path), dataset)
