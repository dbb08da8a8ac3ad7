import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from rasterio.transform import from_origin
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from sustain.errors import DataError, DataWarning, FileFormatError
from sustain.maps.read import read_polygons, zonal_mean
from sustain.maps.read.polygons import mend, polygonal
from tests.maps.fakes import write_raster

BOWTIE = Polygon([(0, 10), (4, 10), (0, 6), (4, 6)])


@pytest.fixture
def ramp(tmp_path):
    """Ten by ten cells of a kilometre; values from -1 by steps of 0.02."""
    values = np.arange(100).reshape(1, 10, 10) / 50 - 1
    layout = {"crs": "EPSG:32631", "transform": from_origin(500_000, 10_000, 1000, 1000)}
    return write_raster(tmp_path / "ramp.tif", values, ("a",), **layout)


def km(shape):
    return shapely.transform(shape, lambda xy: xy * 1000 + [500_000, 0])


def frame(*shapes, **columns):
    return gpd.GeoDataFrame(columns, geometry=[km(shape) for shape in shapes], crs="EPSG:32631")


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (BOWTIE, 8),
        (MultiPolygon([box(0, 0, 2, 2), box(1, 0, 3, 2)]), 6),  # parts that overlap count once
        (Polygon([(0, 0), (2, 0), (2, 2), (0, 2)], [[(1, 1), (3, 1), (3, 1.5), (1, 1.5)]]), 3.5),
        (GeometryCollection([box(0, 0, 2, 2), Point(5, 3), LineString([(0, 0), (9, 9)])]), 4),
        (GeometryCollection([GeometryCollection([box(0, 0, 1, 1)]), MultiPolygon([box(2, 0, 3, 1)])]), 2),
        (Polygon([(0, 0), (3, 0), (3, 3), (0, 3), (0, 0), (3, 0)]), 9),
        (Polygon([(0, 0, 5), (2, 0, 5), (2, 2, 5)]), 2),
    ],
)
def test_what_a_shape_encloses(shape, area):
    assert mend(shape).is_valid
    assert mend(shape).area == pytest.approx(area)


def test_a_bowtie_is_both_its_halves(ramp):
    with pytest.warns(
        DataWarning, match=r"1 of 2 rows are no valid polygons and were mended \(0; the first: Self-int"
    ):
        found = zonal_mean(
            ramp,
            frame(
                BOWTIE, MultiPolygon([Polygon([(0, 10), (4, 10), (2, 8)]), Polygon([(2, 8), (0, 6), (4, 6)])])
            ),
        )
    assert found["a"].tolist() == pytest.approx([-0.67, -0.67])
    assert found["imagery_share"].tolist() == pytest.approx([1, 1])


def test_a_polygon_beside_points_is_the_polygon(ramp):
    square = box(0, 5, 2, 10)
    with pytest.warns(DataWarning, match="the first: points or lines beside polygons"):
        found = zonal_mean(ramp, frame(GeometryCollection([square, Point(5, 3)]), square))
    assert found["a"].tolist() == pytest.approx([-0.59, -0.59])
    assert (
        polygonal(frame(GeometryCollection([square]))).iloc[0].equals(km(square))
    )  # no warning: nothing is lost


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, "1 of 3 rows have no geometry: 'b'"),
        (Polygon(), "1 of 3 rows have no geometry: 'b'"),
        (Point(1, 1), r"1 of 3 rows have no area \(the first is a Point\): 'b'"),
        (LineString([(0, 0), (1, 1)]), r"have no area \(the first is a Linestring\): 'b'"),
        (GeometryCollection([Point(1, 1), LineString([(0, 0), (1, 1)])]), "have no area .*: 'b'"),
        (Polygon([(0, 0), (1, 1), (2, 2)]), "have no area .*: 'b'"),
        (Polygon([(0, 0), (1, np.inf), (2, 2)]), "coordinates that are not finite numbers: 'b'"),
    ],
)
def test_rows_without_a_polygon_are_named(ramp, shape, message):
    table = gpd.GeoDataFrame(
        geometry=[box(0, 0, 1, 1), shape, box(2, 2, 3, 3)], index=list("abc"), crs="EPSG:32631"
    )
    with pytest.raises(DataError, match=message):
        zonal_mean(ramp, table)


def test_layers_are_asked_for(tmp_path):
    path = tmp_path / "two.gpkg"
    frame(box(0, 0, 1, 1), name=["a"]).to_file(path, layer="regions")
    frame(box(0, 0, 1, 1), box(1, 0, 2, 1), name=["b", "c"]).to_file(path, layer="districts")
    with pytest.raises(
        DataError, match=r"two\.gpkg: 2 layers \(regions, districts\), and none is named.*--layer"
    ):
        read_polygons(path)
    with pytest.raises(DataError, match="no layer 'wards'; it has regions, districts"):
        read_polygons(path, layer="wards")
    assert read_polygons(path, layer="districts", key="name").index.tolist() == ["b", "c"]


def test_a_table_beside_the_only_layer_is_no_layer_of_polygons(tmp_path):
    path = tmp_path / "styled.gpkg"
    pd_table = gpd.GeoDataFrame({"styleName": ["x"]}, geometry=[None])
    frame(box(0, 0, 1, 1), name=["a"]).to_file(path, layer="districts")
    import pyogrio

    pyogrio.write_dataframe(
        pd.DataFrame(pd_table.drop(columns="geometry")), path, layer="layer_styles", append=True
    )
    assert read_polygons(path)["name"].tolist() == ["a"]


@pytest.mark.parametrize("named", [False, True])
def test_geoparquet(tmp_path, named):
    table = frame(box(0, 0, 1, 1), box(1, 0, 2, 1), name=["b", "c"])
    path = tmp_path / "districts.parquet"
    (table.set_index("name") if named else table).to_parquet(path)
    found = read_polygons(path, key="name")
    assert found.index.tolist() == ["b", "c"]
    assert found.crs == table.crs
    pd.DataFrame({"name": ["a"]}).to_parquet(path)
    with pytest.raises(FileFormatError, match="a Parquet table without geometry"):
        read_polygons(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match="not a readable GeoParquet file"):
        read_polygons(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "  ", ""], r"2 of 3 rows have no name, the first is row 1"),
        (["a", None, "c"], r"1 of 3 rows have no name, the first is row 1 \(counted from 0\)"),
        (["a", "b", "a"], "1 names are there more than once, such as 'a'"),
        ([1.0, 2.0, 1.0], "such as '1'"),
    ],
)
def test_every_area_has_one_name(tmp_path, names, message):
    path = tmp_path / "districts.gpkg"
    frame(box(0, 0, 1, 1), box(1, 0, 2, 1), box(2, 0, 3, 1), name=names).to_file(path)
    with pytest.raises(DataError, match=message):
        read_polygons(path, key="name")


def test_codes_with_zeros_before_them_are_other_names(tmp_path):
    path = tmp_path / "districts.gpkg"
    frame(box(0, 0, 1, 1), box(1, 0, 2, 1), name=["001", "1"]).to_file(path)
    assert read_polygons(path, key="name")["name"].tolist() == ["001", "1"]


def geojson(path, crs=None):
    square = {
        "type": "Polygon",
        "coordinates": [
            [[500_000, 5000], [502_000, 5000], [502_000, 10_000], [500_000, 10_000], [500_000, 5000]]
        ],
    }
    content = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {"name": "a"}, "geometry": square}],
    }
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def test_geojson_in_metres(ramp, tmp_path):
    declared = read_polygons(geojson(tmp_path / "m.geojson", "urn:ogc:def:crs:EPSG::32631"))
    assert zonal_mean(ramp, declared)["a"].item() == pytest.approx(-0.59)
    with pytest.raises(
        DataError, match=r"coordinates that are no degrees \(the first begins at 500000, 5000\).*crs"
    ):
        zonal_mean(ramp, read_polygons(geojson(tmp_path / "u.geojson")))


def test_exchanged_latitudes_beyond_the_pole_are_no_degrees(ramp):
    with pytest.raises(DataError, match=r"no degrees .* exchange longitude and latitude"):
        zonal_mean(ramp, gpd.GeoDataFrame(geometry=[box(10, 100, 11, 101)], crs=4326))
