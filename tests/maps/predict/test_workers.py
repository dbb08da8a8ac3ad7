"""The same map from a Dask cluster of real processes, one of them killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread

import numpy as np
import pytest
import rasterio
from distributed import Client, LocalCluster

from sustain.config import MapParams
from sustain.errors import ClusterError, DownloadError, ModelError
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import MeanPredictor
from tests.maps.stac_fakes import collection, piece_item, serving

PARAMS = MapParams(spacing_px=8, block_cells=2, batch_size=4, min_coverage=0.5)


@dataclass
class SlowPredictor(MeanPredictor):
    """Slow enough to be killed, and leaves its process's number behind."""

    folder: str = ""

    def predict(self, tiles):
        with open(os.path.join(self.folder, str(os.getpid())), "a") as file:
            file.write("x")
        time.sleep(0.05)
        return super().predict(tiles)


@dataclass
class BrokenPredictor(MeanPredictor):
    """Returns no numbers."""

    def predict(self, tiles):
        return super().predict(tiles) * np.nan


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def expected(tmp_path, scene_path):
    return predict_map(scene_path, MeanPredictor(), tmp_path / "expected.tif", params=PARAMS).read_bytes()


def test_two_workers_make_the_same_bytes(tmp_path, scene_path, client, expected):
    seen = tmp_path / "seen"
    seen.mkdir()
    predictor = SlowPredictor(folder=str(seen))
    out = predict_map(scene_path, predictor, tmp_path / "wealth.tif", params=PARAMS, client=client)
    assert out.read_bytes() == expected
    assert len(list(seen.iterdir())) == 2
    assert str(os.getpid()) not in {path.name for path in seen.iterdir()}


def test_workers_read_stac_items(tmp_path, pixels, client, expected):
    """The items are read here, once; they go along with the model."""
    place = collection(tmp_path / "items.json", [piece_item(tmp_path, "scene", pixels)])
    out = predict_map(place, MeanPredictor(), tmp_path / "wealth.tif", params=PARAMS, client=client)
    assert out.read_bytes() == expected


def test_workers_read_hrefs_and_one_that_stops_answering_costs_nothing_that_is_finished(
    tmp_path, pixels, client, expected
):
    """Each process asks for its own ranges; the error keeps its kind on the way home."""
    one, seen, out = piece_item(tmp_path, "scene", pixels), tmp_path / "seen", tmp_path / "wealth.tif"
    seen.mkdir()
    blocks = tmp_path / ".blocks-wealth"
    with serving(tmp_path) as server:
        for about in one["assets"].values():
            about["href"] = server.address(about["href"][2:]) + "?signature=secret"
        place = collection(tmp_path / "items.json", [one])
        server.fails = lambda path, asked: (
            404 if "NIR" in path and asked != "bytes=0-0" and len(list(blocks.rglob("0*.npy"))) >= 3 else None
        )
        predictor = SlowPredictor(folder=str(seen))
        with pytest.raises(
            DownloadError, match=r"item scene, asset NIR .*NIR\.tif\): does not answer"
        ) as caught:
            predict_map(place, predictor, out, params=PARAMS, client=client)
        assert "Finished blocks are kept" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "in the block at cell row" in caught.value.__notes__[0]
        assert not out.exists()
        n_kept = len(list(blocks.rglob("0*.npy")))
        assert n_kept >= 3
        server.fails = lambda path, asked: None
        server.asked.clear()
        again = MeanPredictor()
        assert predict_map(place, again, out, params=PARAMS, client=client).read_bytes() == expected
        assert again.largest_batch == 0  # predicted elsewhere
        assert any(asked not in (None, "bytes=0-0") for path, asked in server.asked if "NIR" in path)
    assert len(list(seen.iterdir())) == 2


def test_workers_reproject(tmp_path, scene_path, client):
    params = PARAMS.model_copy(update={"crs": "EPSG:32631"})
    here = predict_map(scene_path, MeanPredictor(), tmp_path / "here.tif", params=params).read_bytes()
    there = predict_map(scene_path, MeanPredictor(), tmp_path / "there.tif", params=params, client=client)
    assert there.read_bytes() == here


def test_an_error_on_a_worker_comes_home_with_its_block(tmp_path, scene_path, client):
    with pytest.raises(ModelError, match="finite predictions") as caught:
        predict_map(scene_path, BrokenPredictor(), tmp_path / "wealth.tif", params=PARAMS, client=client)
    assert "in the block at cell row" in caught.value.__notes__[0]
    assert not (tmp_path / "wealth.tif").exists()


def test_a_killed_worker_costs_its_blocks_only(tmp_path, scene_path, client, expected):
    seen = tmp_path / "seen"
    seen.mkdir()

    def kill_the_first_seen():
        while not (found := list(seen.iterdir())):
            time.sleep(0.01)
        os.kill(int(found[0].name), signal.SIGKILL)

    killer = Thread(target=kill_the_first_seen)
    killer.start()
    predictor = SlowPredictor(folder=str(seen))
    out = predict_map(scene_path, predictor, tmp_path / "wealth.tif", params=PARAMS, client=client)
    killer.join()
    assert out.read_bytes() == expected
    assert len(list(seen.iterdir())) >= 2
    with rasterio.open(scene_path) as scene:  # every tile once, and those of the lost worker again
        n_tiles = ((scene.height - 16) // 8 + 1) * ((scene.width - 16) // 8 + 1)
    assert sum(path.stat().st_size for path in seen.iterdir()) < 2 * n_tiles


def test_a_cluster_without_workers_is_named(tmp_path, scene_path):
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
        pytest.raises(ClusterError, match="no workers"),
    ):
        predict_map(scene_path, MeanPredictor(), tmp_path / "wealth.tif", params=PARAMS, client=client)


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and a worker as processes of their own, as on other machines."""
    address = tmp_path / "scheduler.json"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny"]
    with ExitStack() as stack:
        processes = []
        for command in (scheduler, worker):
            log = stack.enter_context((tmp_path / f"{len(processes)}.log").open("w"))
            options = ["--no-dashboard", "--scheduler-file", str(address)]
            process = subprocess.Popen([*command, *options], stdout=log, stderr=log, cwd=os.getcwd())
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield address, processes[0]


def test_a_scheduler_that_goes_away_is_named_and_finished_blocks_are_kept(
    tmp_path, scene_path, expected, cluster
):
    address, scheduler = cluster
    seen, out = tmp_path / "seen", tmp_path / "wealth.tif"
    seen.mkdir()
    blocks = tmp_path / ".blocks-wealth"

    def kill_after_some_blocks():
        while len(list(blocks.rglob("0*.npy"))) < 3:
            time.sleep(0.01)
        scheduler.kill()

    killer = Thread(target=kill_after_some_blocks, daemon=True)
    killer.start()
    with Client(scheduler_file=str(address), timeout="60s") as client:
        client.wait_for_workers(1, timeout=60)
        with pytest.raises(ClusterError, match=r"went away .*Finished blocks are kept: run again"):
            predict_map(scene_path, SlowPredictor(folder=str(seen)), out, params=PARAMS, client=client)
    killer.join()
    assert not out.exists()
    n_kept = len(list(blocks.rglob("0*.npy")))
    assert n_kept >= 3
    before = sum(path.stat().st_size for path in seen.iterdir())
    rest = SlowPredictor(folder=str(seen))
    assert predict_map(scene_path, rest, out, params=PARAMS).read_bytes() == expected
    # 8 x 11 cells in 4 x 6 blocks, a batch each: what was kept is not predicted again.
    assert sum(path.stat().st_size for path in seen.iterdir()) - before == 24 - n_kept
