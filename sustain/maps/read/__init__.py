"""Values of a map at places, in zones and for areas."""

from sustain.maps.read.areas import area_means, areas_table, published_card
from sustain.maps.read.cells import iter_cells, write_cells
from sustain.maps.read.panel import panel_from_maps
from sustain.maps.read.polygons import read_polygons
from sustain.maps.read.trial_units import MapReading, read_map_at_units
from sustain.maps.read.zonal import buffer_mean, sample_points, zonal_mean

__all__ = [
    "MapReading",
    "area_means",
    "areas_table",
    "buffer_mean",
    "iter_cells",
    "panel_from_maps",
    "published_card",
    "read_map_at_units",
    "read_polygons",
    "sample_points",
    "write_cells",
    "zonal_mean",
]
