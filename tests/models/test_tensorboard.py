"""Event files say what curves.csv says, only where they were asked for, and leave the model's bytes alone."""

import hashlib
import struct
from importlib.util import find_spec

import lightning.fabric.loggers.tensorboard as fabric
import pandas as pd
import pytest
from typer.testing import CliRunner

from sustain.cli import app
from sustain.config import TrainParams
from sustain.errors import ConfigError
from sustain.models.training.model import train

PARAMS = TrainParams(epochs=3, batch_size=64, threads=1, members=2)
needs_a_writer = pytest.mark.skipif(
    not (find_spec("tensorboardX") or find_spec("tensorboard")),
    reason="neither tensorboardX nor tensorboard is installed: TensorBoard's event files are not tested",
)


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def scalars(folder):
    """Rows (step, name, value) of the event files of a folder: records of length, checksum, message, checksum."""
    try:
        from tensorboardX.proto.event_pb2 import Event
    except ModuleNotFoundError:
        from tensorboard.compat.proto.event_pb2 import Event
    rows = []
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            rows += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            place += 16 + length
    return pd.DataFrame(rows, columns=["epoch", "name", "value"]).pivot_table(
        index="epoch", columns="name", values="value"
    )


@needs_a_writer
def test_each_member_has_its_curves_and_the_model_is_the_same(packed_tiles, tmp_path):
    train(packed_tiles, tmp_path / "model", PARAMS, 5, tmp_path / "logs")
    train(packed_tiles, tmp_path / "plain", PARAMS, 5)
    assert contents(tmp_path / "model") == contents(tmp_path / "plain")
    logs = [scalars(tmp_path / "logs" / "model" / f"member-{k}") for k in range(2)]
    curves = pd.read_csv(tmp_path / "model" / "curves.csv", index_col="epoch")
    mean = (logs[0] + logs[1]) / 2
    assert mean.index.tolist() == [1, 2, 3]
    pd.testing.assert_frame_equal(mean[curves.columns], curves, rtol=1e-4, check_names=False)


@needs_a_writer
def test_the_command_s_folder_and_the_folds(packed_tiles, tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(
        "source: synthetic\nseed: 5\nprofiles:\n  synthetic:\n"
        "    acquire: {kind: synthetic}\n    train: {epochs: 1, batch_size: 64, threads: 1, crossfit: 2}\n"
    )
    call = ["train", str(packed_tiles), str(tmp_path / "model"), "--params", str(tmp_path / "params.yaml")]
    monkeypatch.setenv("SUSTAIN_TENSORBOARD", str(tmp_path / "logs"))
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    found = sorted(str(path.parent.relative_to(tmp_path / "logs")) for path in tmp_path.rglob("events.*"))
    assert found == ["model/folds/0/member-0", "model/folds/1/member-0", "model/member-0"]


def test_a_missing_package_is_said_before_anything_is_learned(packed_tiles, tmp_path, monkeypatch):
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(fabric, name, False)
    with pytest.raises(ConfigError, match=r"logs.*: pip install tensorboardX, or leave out --tensorboard"):
        train(packed_tiles, tmp_path / "model", PARAMS, 5, tmp_path / "logs")
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "logs").exists()
