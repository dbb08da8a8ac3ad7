"""How fast published DHS tiles are packed, and packed tiles read, beside reading the npz files they come in.

    python benchmarks/tiles.py [--tiles 400]

The tiles are made up, in the published format and of the published compressed size (0.85 MB of 2.08 MB on average).
Rates are tiles a second of CPU time on one core, the best of three passes, since whoever shares the machine's caches
slows a pass; the files are in the disk's cache. Inflating is what takes the time: once for the npz, and once more for
the archive around it, whose content hardly shrinks.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe

from sustain.data.sustainbench import dhs, dhs_tasks
from sustain.data.sustainbench.landsat import LandsatSource
from sustain.files import write_text

SIDE, SHARD = 255, 32
NOISE = 0.0114  # relative, from pixel to pixel; with it a tile compresses to the published mean size
LEVEL = np.array([0.065, 0.095, 0.107, 0.229, 0.156, 298.5, 0.254, 3.4])[:, None, None]


def tile(rng: np.random.Generator) -> bytes:
    """A smooth landscape with fine detail, rounded as surface reflectance and kelvin are."""
    coarse = rng.normal(0, 0.2, (8, 18, 18))
    smooth = np.kron(coarse, np.ones((15, 15)))[:, :SIDE, :SIDE]
    values = LEVEL * np.exp(smooth + rng.normal(0, NOISE, (8, SIDE, SIDE)))
    values[5] = 298.5 + 3 * smooth[5] + rng.normal(0, 0.3, (SIDE, SIDE))
    step = np.where(LEVEL > 1, 0.02, 1e-4)
    stream = io.BytesIO()
    np.savez_compressed(stream, x=(np.rint(values / step) * step).astype(np.float32))
    return stream.getvalue()


def write_raw(folder: Path, n: int, level: int) -> float:
    """Write an archive of `n` tiles, their npz files and the label table; return the mean bytes of a tile.

    At gzip level 0 the archive adds next to nothing to reading the npz in it.
    """
    rng = np.random.default_rng(0)
    contents = [tile(rng) for _ in range(min(n, 40))]
    names = [f"KE-2014-7#-{i:08d}" for i in range(n)]
    (folder / "npz").mkdir(parents=True)
    with tarfile.open(folder / "dhs_ID_MZ.tar.gz", "w:gz", compresslevel=level) as tar:
        for i, name in enumerate(names):
            content = contents[i % len(contents)]
            member = tarfile.TarInfo(f"{name[:10]}/{name}.npz")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            (folder / "npz" / f"{i}.npz").write_bytes(content)
    table = pd.DataFrame(index=range(n), columns=list(dhs.COLUMNS), dtype=object)
    table["DHSID_EA"], table["cname"], table["year"], table["urban"] = names, "KE", 2014, "U"
    table["lat"], table["lon"] = rng.uniform(-4, 4, n), rng.uniform(34, 41, n)
    table["asset_index"], table["n_asset"] = rng.normal(size=n), 20
    table.to_csv(folder / dhs.LABELS_FILE, index=False)
    return float(np.mean([len(content) for content in contents]))


def cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def rates(folder: Path, zipped: Path, n: int) -> list[tuple[str, float, str, str]]:
    packing, packing_zipped = (
        min(cpu(lambda raw=raw: dhs_tasks.ingest(raw, raw / "packed")) for _ in range(3))
        for raw in (folder, zipped)
    )
    source = LandsatSource.open(folder / "packed")
    rng = np.random.default_rng(1)
    order = rng.permutation(n)

    def read_npz() -> None:
        for i in order:
            np.load(folder / "npz" / f"{i}.npz")["x"]

    def read_packed() -> None:
        for start in range(0, n, 32):
            source.tiles.read(order[start : start + 32])

    def read_samples() -> None:
        for i in order:
            source.item("image", int(i))

    read_packed()  # the first touch of a mapped file is not reading
    npz, packed, samples = (
        n / min(cpu(call) for _ in range(3)) for call in (read_npz, read_packed, read_samples)
    )
    return [
        ("pack, from compressed npz", n / packing, "tiles/s of one core", ">= 100"),
        (
            "pack, from compressed npz in a tar.gz of gzip level 6",
            n / packing_zipped,
            "tiles/s of one core",
            "",
        ),
        ("read npz", npz, "tiles/s of one core", ""),
        ("read packed, uint16", packed, "tiles/s of one core", ""),
        ("read packed / read npz", packed / npz, "ratio", ">= 20"),
        ("read packed as float32 samples / read npz", samples / npz, "ratio", ""),
    ]


def peak_memory(folder: Path) -> float:
    """GB at the peak of a packing process, its imports included."""
    # Not getrusage: its ru_maxrss is at least what the process was started from had.
    code = (
        "import re, sys; from pathlib import Path; from sustain.data.sustainbench import dhs_tasks\n"
        "dhs_tasks.ingest(sys.argv[1], sys.argv[1] + '/again')\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    return int(ran.stdout) * 1024 / 1e9


def after_a_kill(folder: Path) -> tuple[int, int]:
    """Kill the pipeline's packing after three shards, run it again: shards that were finished, and those not redone."""
    code = (
        "import sys; from sustain.config import TilesParams\n"
        "from sustain.data.sustainbench.dhs_tiles import pack_dhs_tiles\n"
        f"pack_dhs_tiles(sys.argv[1], sys.argv[2], TilesParams(shard_size={SHARD}, block_km=20), 0, work=sys.argv[3])"
    )
    out, work = folder / "killed", folder / "work"
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder), str(out), str(work)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as first:
        while first.poll() is None and not (work / "shard-0002.json").exists():
            time.sleep(0.01)
        first.kill()
    finished = {path.stem: path for path in work.glob("shard-????.json")}
    written = {stem: (work / f"{stem}.npy").stat().st_mtime_ns for stem in finished}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    kept = sum((out / f"{stem}.npy").stat().st_mtime_ns == stamp for stem, stamp in written.items())
    return len(finished), kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=400)
    n = parser.parse_args().tiles
    with tempfile.TemporaryDirectory() as place:
        folder, zipped = Path(place) / "raw", Path(place) / "zipped"
        mean_bytes = write_raw(folder, n, level=0)
        write_raw(zipped, n, level=6)
        rows = [
            ("compressed size of a tile", mean_bytes / 1e6, "MB", "0.85 published"),
            *rates(folder, zipped, n),
        ]
        rows.append((f"peak memory, packing {n} tiles", peak_memory(folder), "GB", "< 2"))
        finished, kept = after_a_kill(folder)
        rows.append((f"kept of {finished} shards finished before SIGKILL", kept, "shards", f"{finished}"))
    table = pd.DataFrame(rows, columns=["what", "value", "unit", "target"]).round({"value": 3})
    print(table.to_string(index=False))
    write_text(RESULTS / "tiles.csv", f"# {describe()}\n" + table.to_csv(index=False))


if __name__ == "__main__":
    main()
