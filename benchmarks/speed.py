"""How fast corrections are, beside what bounds them: a copy of the same bytes, or GDAL writing the same raster.

    python benchmarks/speed.py [--side 4000,8000] [--only fit,peer,apply,dask,raster,import]

Every ratio is taken within one run. The package `unshrink` is timed where it is importable, on fewer values, because
its time is proportional to calibration rows times values. Set OMP_NUM_THREADS=1 for figures of one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import RESULTS, describe, peak_memory_gb

from sustain.debias import (
    CalibrationCard,
    LinearCalibration,
    TweedieCalibration,
    build_card,
)
from sustain.files import write_text

RASTER_REPEATS, LARGE = 3, 5_000  # larger rasters are corrected once: they tell the memory
KINDS = (LinearCalibration, TweedieCalibration)
Row = dict[str, Any]


def pairs(n: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y_pred = np.where(rng.random(n) < 0.3, rng.normal(1.2, 0.5, n), rng.normal(-0.5, 0.6, n))
    return y_pred, y_pred + 0.6 * rng.normal(size=n)


def best(call: Callable[[], Any], repeats: int = 5) -> float:
    """Least of several times: what the machine can do when nothing else wants it."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def row(what: str, value: float, unit: str, target: str = "") -> Row:
    return {"what": what, "value": value, "unit": unit, "target": target}


def fit() -> list[Row]:
    """Fit on 10,000 pairs and correct a million values."""
    y_pred, y_true = pairs(10_000)
    values, _ = pairs(1_000_000, seed=1)
    rows = []
    for kind in KINDS:

        def call(kind: type = kind) -> None:
            kind().fit(y_pred, y_true).transform(values)

        rows.append(row(f"{kind.method}: fit on 10,000 pairs + correct 1,000,000", best(call), "s", "<= 0.5"))
    return rows


def peer() -> list[Row]:
    """The same with the package `unshrink`, on 10,000 values; nothing where it is not installed."""
    try:
        from unshrink import LccDebiaser, TweedieDebiaser  # type: ignore[import-not-found]
    except ImportError:
        return []
    y_pred, y_true = pairs(10_000)
    values, _ = pairs(1_000_000, seed=1)
    rows, few = [], 10_000
    for other in (LccDebiaser, TweedieDebiaser):

        def call(kind: type = other) -> None:
            kind().fit(cal_predictions=y_pred, cal_targets=y_true).debiased_predictions(values[:few])

        seconds = best(call, repeats=1)
        rows.append(row(f"unshrink {other.__name__}: the same with {few:,} values", seconds, "s"))
        rows.append(
            row(f"unshrink {other.__name__}: scaled to 1,000,000 values", seconds * 1_000_000 / few, "s")
        )
    return rows


def apply() -> list[Row]:
    """Apply a fitted correction to float32, beside a copy and beside a straight line in numpy."""
    y_pred, y_true = pairs(10_000)
    values = pairs(10_000_000, seed=1)[0].astype(np.float32)
    out = np.empty_like(values)
    copy_s = best(lambda: np.copyto(out, values))
    rows = [row("copy of 10,000,000 float32", values.size / copy_s / 1e6, "M/s")]
    for kind in KINDS:
        calibration = kind().fit(y_pred, y_true)
        seconds = best(lambda fitted=calibration: fitted.transform(values))
        rows.append(row(f"{kind.method}: apply to float32", values.size / seconds / 1e6, "M/s", ">= 50"))
        rows.append(row(f"{kind.method}: apply, times a copy", seconds / copy_s, "x"))
    return rows


def dask() -> list[Row]:
    """Correct a lazy array with one worker and with two: threads of one process, and processes of a cluster."""
    import dask.array as da
    from distributed import Client, LocalCluster

    y_pred, y_true = pairs(10_000)
    calibration = TweedieCalibration().fit(y_pred, y_true)
    values = da.from_array(pairs(40_000_000, seed=1)[0].astype(np.float32), chunks=1_000_000)
    lazy = calibration.transform(values).sum()
    one, two = (best(lambda n=n: lazy.compute(num_workers=n), repeats=3) for n in (1, 2))
    rows = [row("dask: two threads against one", one / two, "x", ">= 1.7")]
    seconds = []
    for n in (1, 2):
        with (
            LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            numbers = da.random.default_rng(1).normal(size=200_000_000, chunks=2_000_000)
            held = client.persist(numbers.astype(np.float32))
            client.gather(client.compute(held.sum()))  # made, and every worker warm
            total = calibration.transform(held).sum()
            seconds.append(best(lambda client=client, total=total: client.compute(total).result(), repeats=3))
    return [*rows, row("dask: two worker processes against one", seconds[0] / seconds[1], "x", ">= 1.7")]


def make_card() -> CalibrationCard:
    y_pred, y_true = pairs(10_000)
    return build_card(
        y_pred, y_true, target={"name": "wealth", "unit": "index"}, predictor="benchmark", n_boot=200
    )


def raster(side: int) -> list[Row]:
    """Correct a raster of side x side cells, beside GDAL's own tool, which copies the same four bands to a COG."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".partial-") as name:
        folder = Path(name)
        make_card().save(folder / "card.json")
        write_source(folder / "raw.tif", side)
        step("correct", folder)
        copy_plain(folder / "corrected.tif", folder / "plain.tif")
        # By turns, each in a process of its own, so that its memory can be read.
        runs = [
            {what: timed(what, folder) for what in ("correct", "gdal")}
            for _ in range(RASTER_REPEATS if side <= LARGE else 1)
        ]
        size, gdal_size = ((folder / file).stat().st_size / 1e6 for file in ("corrected.tif", "gdal.tif"))
    seconds, gdal_s = (min(run[what][0] for run in runs) for what in ("correct", "gdal"))
    cpu, gdal_cpu = (min(run[what][1] for run in runs) for what in ("correct", "gdal"))
    what, tool = f"raster {side} x {side}", gdal_tool()
    return [
        row(f"{what}: correct", seconds, "s"),
        row(f"{what}: {tool} of the same four bands", gdal_s, "s"),
        row(f"{what}: correct, times GDAL", seconds / gdal_s, "x", "<= 2"),
        row(f"{what}: correct, times GDAL, by the processor's time", cpu / gdal_cpu, "x", "<= 2"),
        row(f"{what}: correct, peak memory", max(run["correct"][2] for run in runs), "GB", "< 1"),
        row(f"{what}: size of the corrected map", size, "MB"),
        row(f"{what}: size of GDAL's copy", gdal_size, "MB"),
    ]


def timed(what: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, processor's seconds and peak memory of a step in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--step", what, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, cpu, memory = json.loads(done.stdout)
    return seconds, cpu, memory


def gdal_tool() -> str:
    """GDAL's tool that the correction is timed beside: its own program, else the same copy by rasterio's GDAL."""
    if shutil.which("gdal_translate"):
        version = subprocess.run(["gdal_translate", "--version"], capture_output=True, text=True, check=True)
        return f"gdal_translate -of COG ({version.stdout.split(',')[0]})"
    import rasterio

    return f"rasterio.shutil.copy, COG (GDAL {rasterio.__gdal_version__})"


def copy_plain(source: Path, path: Path) -> None:
    """Uncompressed, without overviews: what a tool that makes a COG is given."""
    import rasterio.shutil

    layout = {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "interleave": "band",
        "bigtiff": "IF_SAFER",
    }
    rasterio.shutil.copy(source, path, driver="GTiff", **layout)


def write_source(path: Path, side: int) -> None:
    """A smooth field with noise and a hole: compresses as maps do."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from sustain.maps.geotiff import BLOCK_PX
    from sustain.maps.writing import create_geotiff

    rng = np.random.default_rng(0)
    columns = np.arange(side)
    with create_geotiff(
        path,
        like=GeoBox((side, side), Affine.scale(30, -30), "EPSG:3857"),
        bands=("wealth_raw",),
        units=("index",),
        tags={},
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
    ) as target:
        for _, window in target.block_windows(1):
            x = columns[window.col_off : window.col_off + window.width] / 900
            y = columns[window.row_off : window.row_off + window.height] / 700
            block = np.sin(x)[None] + np.cos(y)[:, None] + rng.normal(0, 0.05, (y.size, x.size)).round(3)
            block[(np.sin(x)[None] * np.cos(y)[:, None]) < -0.8] = np.nan
            target.write(block.astype(np.float32)[None], window=window)


def step(name: str, folder: Path) -> None:
    """Correct the raster, or have GDAL copy its bands with the same compression and overviews and all cores."""
    if name == "correct":
        from sustain.maps.correct import correct_raster

        correct_raster(folder / "raw.tif", folder / "corrected.tif", folder / "card.json", method="tweedie")
        return
    options = {
        "COMPRESS": "DEFLATE",
        "LEVEL": "1",
        "PREDICTOR": "FLOATING_POINT",
        "OVERVIEW_RESAMPLING": "AVERAGE",
        "NUM_THREADS": "ALL_CPUS",
        "BIGTIFF": "IF_SAFER",
    }
    if shutil.which("gdal_translate"):
        pairs = [part for option, value in options.items() for part in ("-co", f"{option}={value}")]
        command = ["gdal_translate", "-q", "-of", "COG", *pairs, folder / "plain.tif", folder / "gdal.tif"]
        subprocess.run(command, check=True)
    else:
        import rasterio.shutil

        rasterio.shutil.copy(folder / "plain.tif", folder / "gdal.tif", driver="COG", **options)


def run_step(name: str, folder: Path) -> None:
    """Print seconds, processor's seconds (of child processes too) and peak memory of a step."""
    import resource

    import sustain.maps.correct  # noqa: F401, loaded before the clock starts, as for any raster but the first

    start = time.perf_counter()
    step(name, folder)
    seconds = time.perf_counter() - start
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([seconds, sum(part.ru_utime + part.ru_stime for part in used), peak_memory_gb()]))


def start_up() -> list[Row]:
    """Import in a fresh process, beside an empty one."""
    code = "from sustain.debias import tweedie_correct"
    seconds = best(lambda: subprocess.run([sys.executable, "-c", code], check=True), repeats=5)
    empty = best(lambda: subprocess.run([sys.executable, "-c", ""], check=True), repeats=5)
    return [row(f"fresh process: {code}", seconds, "s", "< 1"), row("fresh process: nothing", empty, "s")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", default="4000,8000", help="Cells along a side of the rasters.")
    parser.add_argument("--only", default="fit,peer,apply,dask,raster,import")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step, arguments.folder)
        return
    machine = describe()
    parts = {
        "fit": fit,
        "peer": peer,
        "apply": apply,
        "dask": dask,
        "raster": lambda: [found for side in arguments.side.split(",") for found in raster(int(side))],
        "import": start_up,
    }
    chosen = arguments.only.split(",")
    rows = [{"part": name, **found, "machine": machine} for name in chosen for found in parts[name]()]
    table = pd.DataFrame(rows).assign(value=lambda t: t["value"].map(lambda v: float(f"{v:.4g}")))
    print(table.drop(columns="machine").to_string(index=False))
    path = RESULTS / "speed.csv"
    if path.exists():  # parts that were not run keep their last figures, with the machine's state at the time
        kept = pd.read_csv(path)
        table = pd.concat([kept[~kept["part"].isin(table["part"])], table])
    write_text(path, table.sort_values("part", kind="stable").to_csv(index=False))


if __name__ == "__main__":
    main()
