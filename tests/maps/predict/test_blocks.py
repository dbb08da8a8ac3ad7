"""Finished blocks: a killed run goes on from them, and changed inputs never meet them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, get_ident

import numpy as np
import pytest
import rasterio.shutil

from sustain.config import MapParams
from sustain.errors import DiskSpaceError, DownloadError, FileFormatError, RasterError
from sustain.maps.grid import Block, Span
from sustain.maps.imagery.identity import identity_of
from sustain.maps.imagery.scene import Scene
from sustain.maps.predict.finished_blocks import BlockStore
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import MeanPredictor, write_scene
from tests.maps.stac_fakes import serving, silence

PARAMS = MapParams(spacing_px=8, block_cells=2, batch_size=4, min_coverage=0.5)


@dataclass
class CountingPredictor(MeanPredictor):
    """Stops with an error after some blocks."""

    n_tiles: int = 0
    stop_after: int = 10**9

    def predict(self, tiles):
        if self.n_tiles + len(tiles) > self.stop_after:
            raise RuntimeError("the device is on fire")
        self.n_tiles += len(tiles)
        return super().predict(tiles)


def stopped_run(tmp_path, scene_path, stop_after=20):
    predictor = CountingPredictor(stop_after=stop_after)
    with pytest.raises(RuntimeError, match="on fire") as caught:
        predict_map(scene_path, predictor, tmp_path / "wealth.tif", params=PARAMS)
    return predictor, caught


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(tmp_path, scene_path):
    whole = CountingPredictor()
    expected = predict_map(scene_path, whole, tmp_path / "whole.tif", params=PARAMS).read_bytes()
    first, _ = stopped_run(tmp_path, scene_path)
    assert not (tmp_path / "wealth.tif").exists()
    second = CountingPredictor()
    out = predict_map(scene_path, second, tmp_path / "wealth.tif", params=PARAMS)
    assert out.read_bytes() == expected
    assert first.n_tiles > 0
    assert first.n_tiles + second.n_tiles == whole.n_tiles
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "changed",
    ["scene", "scene of the same size and time", "model", "model of the same name", "spacing", "batch"],
)
def test_changed_inputs_never_reuse_a_block(tmp_path, scene_path, pixels, changed):
    write_scene(scene_path, pixels, compress="none")  # of one size whatever it holds
    stopped_run(tmp_path, scene_path)
    predictor, params = CountingPredictor(), PARAMS
    about = scene_path.stat()
    if changed == "scene":
        write_scene(scene_path, pixels + 1)
    elif changed == "scene of the same size and time":
        write_scene(scene_path, pixels[:, ::-1], compress="none")
        assert scene_path.stat().st_size == about.st_size
        os.utime(scene_path, ns=(about.st_atime_ns, about.st_mtime_ns))
    elif changed == "model":
        predictor.id = "mean-ba9876543210"
    elif changed == "model of the same name":
        predictor.fingerprint = "another year, or another scaling of the same weights"
    else:
        name = {"spacing": "spacing_px", "batch": "batch_size"}[changed]
        params = PARAMS.model_copy(update={name: 16})
    out = predict_map(scene_path, predictor, tmp_path / "wealth.tif", params=params)
    fresh = CountingPredictor(id=predictor.id)
    again = predict_map(scene_path, fresh, tmp_path / "fresh.tif", params=params)
    assert predictor.n_tiles == fresh.n_tiles
    assert out.read_bytes() == again.read_bytes()


def test_a_file_changed_in_its_middle_is_another_one(tmp_path):
    """Both ends, the size and the time of change stay."""
    path = tmp_path / "large.tif"
    content = bytearray(np.random.default_rng(1).bytes(3 << 20))
    path.write_bytes(content)
    about, before = path.stat(), identity_of([path])
    assert identity_of([path]) == before
    content[3 << 19] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert identity_of([path]) != before


def test_sources_of_a_vrt_of_vrts_are_looked_at(tmp_path, scene_path, pixels):
    rasterio.shutil.copy(scene_path, tmp_path / "inner.vrt", driver="VRT")
    text = (tmp_path / "inner.vrt").read_text()
    (tmp_path / "outer.vrt").write_text(text.replace("scene.tif", "inner.vrt"))
    identities = []
    for change in (0, 0, 1):
        if change:
            write_scene(scene_path, pixels + 1)
        with Scene(tmp_path / "outer.vrt", MeanPredictor()) as scene:
            identities.append(scene.identity())
    assert identities[0] == identities[1] != identities[2]


@pytest.fixture
def web_vrt(tmp_path, scene_path):
    """A server of the scene, and a VRT on this disk that names it there."""
    with serving(tmp_path) as server:
        rasterio.shutil.copy(scene_path, tmp_path / "scene.vrt", driver="VRT")
        text = (tmp_path / "scene.vrt").read_text().replace('relativeToVRT="1"', 'relativeToVRT="0"')
        text = text.replace(">scene.tif<", f">/vsicurl/{server.address('scene.tif')}<")
        (tmp_path / "scene.vrt").write_text(text)
        yield server, tmp_path / "scene.vrt"


def test_sources_of_a_vrt_on_the_web_are_asked(scene_path, pixels, web_vrt):
    with Scene(web_vrt[1], MeanPredictor()) as scene:
        np.testing.assert_array_equal(scene.read(Span(0, 0, 75, 101)), pixels)
        before = scene.identity()
        assert scene.identity() == before
        os.utime(scene_path, ns=(0, 0))  # the server's entity tag
        assert scene.identity() != before


def test_a_source_of_a_vrt_on_the_web_that_falls_silent_is_told(tmp_path, web_vrt, monkeypatch):
    for name, value in {"MAX_RETRY": "0", "TIMEOUT": "1", "CONNECTTIMEOUT": "1"}.items():
        monkeypatch.setenv(f"GDAL_HTTP_{name}", value)
    server, path = web_vrt
    with Scene(path, MeanPredictor()) as scene:  # open, nothing read yet
        server.fails = silence
        with pytest.raises(DownloadError, match=r"scene\.vrt: one of its sources on the web does not answer"):
            scene.read(Span(0, 0, 75, 101))


@dataclass
class WaitingPredictor(MeanPredictor):
    """Lets another run start in the middle."""

    meanwhile: object = None

    def predict(self, tiles):
        self.meanwhile()
        return super().predict(tiles)


def test_a_second_run_of_the_same_map_is_refused_and_the_first_goes_on(tmp_path, scene_path):
    out = tmp_path / "wealth.tif"
    whole = predict_map(scene_path, MeanPredictor(), tmp_path / "whole.tif", params=PARAMS).read_bytes()
    other = MeanPredictor(id="mean-ba9876543210")

    def second():
        with pytest.raises(RasterError, match=r"wealth\.tif: another run is making this map"):
            predict_map(scene_path, other, out, params=PARAMS)
        # Elsewhere it may.
        predict_map(scene_path, other, tmp_path / "elsewhere.tif", params=PARAMS)

    predict_map(scene_path, WaitingPredictor(meanwhile=second), out, params=PARAMS)
    assert out.read_bytes() == whole
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    predict_map(scene_path, other, out, params=PARAMS)  # its turn now


def test_reading_predicting_and_writing_overlap(tmp_path, scene_path, monkeypatch):
    """While the first block is written the second is predicted, and the third read already."""
    threads = {"read": set(), "predict": set(), "write": set()}
    read, save, going_on = Scene.read, BlockStore.save, Event()
    n_read, overlapped = 0, []

    def reading(self, window):
        nonlocal n_read
        threads["read"].add(get_ident())
        n_read += 1
        if n_read == 3:
            going_on.set()
        return read(self, window)

    def writing(self, block, values):
        threads["write"].add(get_ident())
        overlapped.append(going_on.wait(20))
        save(self, block, values)

    monkeypatch.setattr(Scene, "read", reading)
    monkeypatch.setattr(BlockStore, "save", writing)
    predictor = WaitingPredictor(meanwhile=lambda: threads["predict"].add(get_ident()))
    predict_map(scene_path, predictor, tmp_path / "wealth.tif", params=PARAMS)
    assert all(overlapped)
    assert len(set.union(*threads.values())) == 3


def test_other_files_in_the_folder_for_blocks_are_left_alone(tmp_path, scene_path):
    """Somebody names a folder of his own."""
    work = tmp_path / "work"
    kept = [
        work / "notes.txt",
        work / ("0" * 16) / "000000-000000.txt",
        work / "thesis" / "000000-000000.npy",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a year of work")
    predict_map(scene_path, MeanPredictor(), tmp_path / "wealth.tif", params=PARAMS, work=work)
    assert sorted(path for path in work.rglob("*") if path.is_file()) == sorted(kept)


def test_the_scene_is_not_overwritten(tmp_path, scene_path):
    before = scene_path.read_bytes()
    rasterio.shutil.copy(scene_path, tmp_path / "scene.vrt", driver="VRT")
    (tmp_path / "link.tif").symlink_to(scene_path)
    for scene in (scene_path, tmp_path / "scene.vrt", [scene_path]):
        for out in (scene_path, tmp_path / "link.tif"):
            with pytest.raises(RasterError, match=r"\.tif: is one of the scene's own files"):
                predict_map(scene, MeanPredictor(), out, params=PARAMS)
    with pytest.raises(RasterError, match="is a folder"):
        predict_map(scene_path, MeanPredictor(), tmp_path, params=PARAMS)
    assert scene_path.read_bytes() == before


def test_an_error_says_which_block(tmp_path, scene_path, monkeypatch):
    _, caught = stopped_run(tmp_path, scene_path)
    assert "block at cell row" in caught.value.__notes__[0]
    original = Scene.read

    def read(self, window):
        if window.row > 20:
            raise FileFormatError("the disk is gone")
        return original(self, window)

    monkeypatch.setattr(Scene, "read", read)
    with pytest.raises(FileFormatError, match="the disk is gone") as in_thread:
        predict_map(scene_path, CountingPredictor(), tmp_path / "other.tif", params=PARAMS)
    assert in_thread.value.__notes__ == ["in the block at cell row 4, column 0 of the map"]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"not an array at all"])
def test_a_damaged_block_is_not_finished(tmp_path, damage):
    store = BlockStore(tmp_path / "blocks", {"model": "a"})
    block = Block(Span(2, 4, 3, 5), Span(0, 0, 1, 1))
    values = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    store.save(block, values)
    np.testing.assert_array_equal(store.load(block), values)
    next((tmp_path / "blocks").rglob("*.npy")).write_bytes(damage)
    assert store.load(block) is None


def test_a_full_disk_stops_the_run_and_keeps_finished_blocks(tmp_path, scene_path, monkeypatch):
    """Blocks go to a device that the system says is full, from the fourth on."""
    out = tmp_path / "wealth.tif"
    honest, n_saved = Path.write_bytes, 0

    def write(path, content):
        nonlocal n_saved
        n_saved += 1
        return honest(path if n_saved <= 3 else Path("/dev/full"), content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(DiskSpaceError, match=r"\.npy: the disk filled up.*Free some space"):
        predict_map(scene_path, CountingPredictor(), out, params=PARAMS)
    assert not out.exists()
    assert len([*(tmp_path / ".blocks-wealth").rglob("*.npy")]) == 3
    monkeypatch.undo()
    rest = CountingPredictor()
    predict_map(scene_path, rest, out, params=PARAMS)
    whole = predict_map(scene_path, CountingPredictor(), tmp_path / "whole.tif", params=PARAMS)
    assert out.read_bytes() == whole.read_bytes()
    assert rest.n_tiles == 8 * 11 - 3 * 4


def test_a_real_limit_stops_the_run_and_keeps_finished_blocks(tmp_path, scene_path):
    """The system refuses the last bytes of the larger blocks, which `numpy.save` does not notice."""
    out, params = tmp_path / "wealth.tif", MapParams(spacing_px=2, block_cells=24)
    whole = predict_map(scene_path, MeanPredictor(), tmp_path / "whole.tif", params=params)
    script = (
        "import resource, signal, sys\n"
        "from sustain.config import MapParams; from sustain.maps.predict.predict import predict_map\n"
        "from tests.maps.fakes import MeanPredictor\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4500, resource.RLIM_INFINITY))\n"
        "params = MapParams(spacing_px=2, block_cells=24)\n"
        "predict_map(sys.argv[1], MeanPredictor(), sys.argv[2], params=params)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, scene_path, out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.search(r"DiskSpaceError: .*\.npy: the disk filled up .* quota or file-size limit", done.stderr)
    assert not out.exists()
    assert predict_map(scene_path, MeanPredictor(), out, params=params).read_bytes() == whole.read_bytes()


SLOW = """
import sys, time
from sustain.config import MapParams
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import MeanPredictor

class Slow(MeanPredictor):
    def predict(self, tiles):
        time.sleep(0.05)
        return super().predict(tiles)

params = MapParams(spacing_px=8, block_cells=2, batch_size=4, min_coverage=0.5)
predict_map(sys.argv[1], Slow(), sys.argv[2], params=params)
"""


def test_sigkill_leaves_whole_blocks_and_no_map(tmp_path, scene_path):
    out = tmp_path / "wealth.tif"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(scene_path), str(out)], cwd=os.getcwd())
    blocks = tmp_path / ".blocks-wealth"
    deadline = time.monotonic() + 60
    while len(list(blocks.rglob("0*.npy"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    n_done = len(list(blocks.rglob("0*.npy")))
    assert n_done >= 3
    predictor = CountingPredictor()
    predict_map(scene_path, predictor, out, params=PARAMS)
    expected = predict_map(scene_path, CountingPredictor(), tmp_path / "whole.tif", params=PARAMS)
    assert out.read_bytes() == expected.read_bytes()
    assert predictor.n_tiles <= 8 * 11 - 4 * (n_done - 2)
