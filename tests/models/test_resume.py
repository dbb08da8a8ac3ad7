"""A training that is killed goes on where it was, ends with the same bytes, and never with something else's state."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from sustain.config import TrainParams
from sustain.errors import DataWarning
from sustain.models.training.model import train
from sustain.models.training.regression import Regression

# Everything with a state: moving average, accumulation, jitter, two members.
PARAMS = TrainParams(
    epochs=12, batch_size=16, accumulate=2, threads=1, average=0.9, jitter=0.05, members=2, views=2
)
SCRIPT = """
import sys
from sustain.config import TrainParams
from sustain.models.training.model import train
train(sys.argv[1], sys.argv[2], TrainParams.model_validate_json(sys.argv[3]), 5)
"""


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def checkpoints(out):
    return sorted((out.parent / ".resume").rglob("last.ckpt"))


@pytest.fixture
def epochs(monkeypatch):
    """Numbers of the epochs that are trained in this process."""
    seen = []
    start = Regression.on_train_epoch_start

    def noted(self):
        seen.append(self.current_epoch)
        start(self)

    monkeypatch.setattr(Regression, "on_train_epoch_start", noted)
    return seen


def interrupt_after(epoch):
    """Let the training of this process fail in the first step of an epoch."""
    step = Regression.training_step

    def failing(self, batch, index):
        if self.current_epoch == epoch:
            raise KeyError("stopped here")
        return step(self, batch, index)

    patched = pytest.MonkeyPatch()
    patched.setattr(Regression, "training_step", failing)
    return patched


@pytest.fixture(scope="module")
def undisturbed(packed_tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    train(packed_tiles, out, PARAMS, seed=5)
    return contents(out)


def test_killed_in_the_middle_it_leaves_the_old_model_and_then_ends_with_the_same_weights(
    packed_tiles, trained, undisturbed, tmp_path, epochs
):
    out = shutil.copytree(trained, tmp_path / "model")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, packed_tiles, out, PARAMS.model_dump_json()], start_new_session=True
    )

    def reached():
        # The second member's checkpoint: the first is finished by then.
        return [path for path in checkpoints(out) if path.parent.name == "member-1"]

    while not reached():
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert contents(out) == contents(trained)
    train(packed_tiles, out, PARAMS, seed=5)
    assert contents(out) == undisturbed
    assert 0 < len(epochs) < PARAMS.epochs  # nothing of the first member, and not all of the second
    assert not (tmp_path / ".resume").exists()


def test_a_failure_at_the_last_moment_costs_no_epoch(packed_tiles, undisturbed, tmp_path, epochs):
    out = tmp_path / "model"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "sustain.models.training.model.write_json", lambda *_: (_ for _ in ()).throw(OSError("full"))
        )
        with pytest.raises(OSError, match="full"):
            train(packed_tiles, out, PARAMS, seed=5)
    epochs.clear()
    train(packed_tiles, out, PARAMS, seed=5)
    assert epochs == []
    assert contents(out) == undisturbed


def test_an_early_stop_is_remembered(packed_tiles, tmp_path, epochs):
    params = TrainParams(epochs=40, batch_size=64, threads=1, learning_rate=1e-9, patience=2)
    train(packed_tiles, tmp_path / "once", params, seed=2)
    stopped = len(epochs)
    assert stopped < 40
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "sustain.models.training.model.write_json", lambda *_: (_ for _ in ()).throw(OSError("full"))
        )
        with pytest.raises(OSError, match="full"):
            train(packed_tiles, tmp_path / "model", params, seed=2)
    train(packed_tiles, tmp_path / "model", params, seed=2)
    assert len(epochs) == 2 * stopped
    assert contents(tmp_path / "model") == contents(tmp_path / "once")


@pytest.fixture
def interrupted(packed_tiles, tmp_path):
    """A training of 6 epochs that failed in its fourth; returns the function that runs it again."""
    params = TrainParams(epochs=6, batch_size=64, threads=1)
    patched = interrupt_after(3)
    with pytest.raises(KeyError, match="stopped here"):
        train(packed_tiles, tmp_path / "model", params, seed=5)
    patched.undo()

    def again(tiles=packed_tiles, seed=5, **changes):
        train(tiles, tmp_path / "model", params.model_copy(update=changes), seed)

    return again


def test_the_same_goes_on(interrupted, epochs):
    interrupted()
    assert epochs == [3, 4, 5]


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e-3}, {"seed": 6}, {"batch_size": 32}, {"loss": "huber"}]
)
def test_other_parameters_start_anew(interrupted, epochs, changes):
    interrupted(**changes)
    assert epochs[:4] == [0, 1, 2, 3]


def test_other_labels_start_anew(interrupted, packed_tiles, tmp_path, epochs):
    tiles = shutil.copytree(packed_tiles, tmp_path / "tiles")
    index = pd.read_parquet(tiles / "index.parquet")
    index.loc[3, "label"] += 0.01
    index.to_parquet(tiles / "index.parquet", index=False)
    interrupted(tiles=tiles)
    assert epochs[0] == 0


def test_other_pixels_start_anew(interrupted, packed_tiles, tmp_path, epochs):
    tiles = shutil.copytree(packed_tiles, tmp_path / "tiles")
    shard = np.load(tiles / "shard-0000.npy")
    shard[:, 0] += 1
    np.save(tiles / "shard-0000.npy", shard)
    interrupted(tiles=tiles)
    assert epochs[0] == 0


def test_a_damaged_checkpoint_is_put_away(interrupted, tmp_path, epochs):
    (path,) = checkpoints(tmp_path / "model")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(DataWarning, match=r"last\.ckpt: damaged"):
        interrupted()
    assert epochs == list(range(6))


def test_a_checkpoint_of_another_architecture_is_put_away(interrupted, tmp_path, epochs):
    (path,) = checkpoints(tmp_path / "model")
    content = torch.load(path, weights_only=True)
    name = next(name for name, value in content["state_dict"].items() if value.ndim == 4)
    content["state_dict"][name] = torch.zeros(2, 2, 1, 1)
    torch.save(content, path)
    with pytest.warns(DataWarning, match=r"last\.ckpt: damaged .*another architecture's.*from the beginning"):
        interrupted()
    assert epochs == list(range(6))


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_run(interrupted, tmp_path, epochs):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w').close()",))

    (path,) = checkpoints(tmp_path / "model")
    torch.save({"state_dict": Hostile()}, path)
    with pytest.warns(DataWarning, match="damaged"):
        interrupted()
    assert not (tmp_path / "owned").exists()
    page = json.loads((tmp_path / "model" / "model.json").read_text())
    assert page["seed"] == 5
