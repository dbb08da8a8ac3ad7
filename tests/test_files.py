import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sustain.errors import DataError, DiskSpaceError, FileFormatError
from sustain.files import (
    atomic_directory,
    atomic_path,
    read_json,
    require_free_space,
    require_replaceable,
    sha256_of,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_folder_leaves_the_old_folder_and_no_other(tmp_path):
    target = tmp_path / "d"
    target.mkdir()
    (target / "x").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(target) as partial:
        (partial / "x").write_text("half")
        raise RuntimeError
    assert (target / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["d"]


def test_a_new_folder_replaces_the_old_one_whole(tmp_path):
    for content in ("a", "b"):
        with atomic_directory(tmp_path / "d") as partial:
            (partial / content).write_text(content)
    assert os.listdir(tmp_path / "d") == ["b"]


def test_a_symbolic_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "old").write_text("old")
    (tmp_path / "d").symlink_to(disk)
    with atomic_directory(tmp_path / "d") as partial:
        assert partial.parent == tmp_path  # where the disk is: the move into place is one rename
        (partial / "new").write_text("new")
    assert (tmp_path / "d").is_symlink()
    assert os.listdir(disk) == ["new"]

    (tmp_path / "a.txt").symlink_to(disk / "a.txt")  # to nothing yet
    with atomic_path(tmp_path / "a.txt") as partial:
        assert partial.parent == disk
        partial.write_text("new")
    assert (tmp_path / "a.txt").is_symlink()
    assert (disk / "a.txt").read_text() == "new"


def test_no_file_locks_are_needed_to_import_or_run(tmp_path):
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "import sustain.debias, sustain.causal, sustain.maps.correct, sustain.maps.read, sustain.cli\n"
        "from sustain.files import only_run\n"
        "with only_run(Path(sys.argv[1]), RuntimeError()): print('ran')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "ran\n", done.stderr


def test_a_killed_writer_leaves_nothing_in_place_and_the_next_one_cleans_up(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from sustain.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as p:\n"
        "    p.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "a.txt"
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    with atomic_path(target) as partial:
        partial.write_text("whole")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("move", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_folder_whose_swap_is_killed_is_whole_or_absent_and_the_next_run_heals_it(tmp_path, move, after):
    code = (
        "import os, signal, sys\n"
        "from sustain.files import atomic_directory\n"
        "moved, real = 0, os.replace\n"
        "def replace(a, b):\n"
        "    global moved\n"
        "    moved += 1\n"
        f"    if moved == {move} and not {after}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(a, b)\n"
        f"    if moved == {move}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = replace\n"
        "with atomic_directory(sys.argv[1]) as p:\n"
        "    (p / 'x').write_text('new'); (p / 'mark').write_text('new')\n"
    )
    target = tmp_path / "d"
    target.mkdir()
    (target / "x").write_text("old")
    (target / "mark").write_text("old")
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    if target.exists():
        assert {(target / name).read_text() for name in ("x", "mark")} in ({"old"}, {"new"})
    require_replaceable(target, "mark")
    with atomic_directory(target) as partial:
        (partial / "y").write_text("newest")
    assert os.listdir(target) == ["y"]
    assert os.listdir(tmp_path) == ["d"]


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "d"
    target.mkdir()
    (target / "x").write_text("old")
    real = os.replace

    def replace(source, final):
        if (Path(source) / "new").exists():
            raise PermissionError(errno.EPERM, "no")
        real(source, final)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError), atomic_directory(target) as partial:
        (partial / "new").write_text("new")
    assert (target / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["d"]


def test_runs_at_the_same_time_leave_one_whole_result_and_none_fails(tmp_path):
    code = (
        "import sys\n"
        "from sustain.files import atomic_directory, atomic_path\n"
        "me = sys.argv[2] * 100_000\n"
        "for _ in range(40):\n"
        "    with atomic_path(sys.argv[1] + '/file') as p:\n"
        "        p.write_text(me)\n"
        "    with atomic_directory(sys.argv[1] + '/folder') as p:\n"
        "        for name in 'abc':\n"
        "            (p / name).write_text(me)\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "123"]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    wholes = {name * 100_000 for name in "123"}
    assert (tmp_path / "file").read_text() in wholes
    assert sorted(os.listdir(tmp_path / "folder")) == ["a", "b", "c"]
    assert len({(tmp_path / "folder" / name).read_text() for name in "abc"} & wholes) == 1


def test_a_killed_writer_that_nobody_has_taken_note_of_counts_as_gone(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from sustain.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as p:\n"
        "    p.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")]) as process:
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)  # a zombie until `wait`
        with atomic_path(tmp_path / "b") as partial:
            partial.write_text("b")
        assert os.listdir(tmp_path) == ["b"]


def test_another_machine_s_unfinished_file_is_left_alone(tmp_path):
    (tmp_path / ".partial-0123abcd-1-0-x").write_text("on a shared disk")
    (tmp_path / ".partial-downloads").mkdir()
    with atomic_path(tmp_path / "x") as partial:
        partial.write_text("x")
    assert sorted(os.listdir(tmp_path)) == [".partial-0123abcd-1-0-x", ".partial-downloads", "x"]


@pytest.mark.parametrize("place", [atomic_path, atomic_directory])
def test_a_full_disk_is_said_and_nothing_is_left(tmp_path, place):
    with pytest.raises(DiskSpaceError, match=r"a\.txt: the disk filled up"), place(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG])
def test_a_quota_and_a_file_size_limit_are_full_disks_too(tmp_path, number):
    with pytest.raises(DiskSpaceError, match="quota or file-size limit"), atomic_path(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))


def test_numpy_s_short_write_is_a_full_disk(tmp_path):
    """NumPy says how many numbers it wrote, and keeps the system's error to itself."""
    with (
        pytest.raises(DiskSpaceError, match=r"a\.npy: the disk filled up"),
        atomic_path(tmp_path / "a.npy"),
        open("/dev/full", "wb") as full,
    ):
        np.save(full, np.zeros(100_000))


def test_json_is_stable_and_strict(tmp_path):
    value = {"b": np.float64(math.nan), "a": np.arange(2), "c": (1, math.inf), "d": tmp_path.name}
    first = write_json(tmp_path / "a.json", value).read_bytes()
    again = write_json(tmp_path / "b.json", dict(reversed(value.items()))).read_bytes()
    assert first == again
    assert json.loads(first) == {"a": [0, 1], "b": None, "c": [1, None], "d": tmp_path.name}


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"card\.json: not a JSON file"):
        read_json(tmp_path / "card.json")


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc", chunk=2) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_too_little_space_names_the_folder_and_both_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 10**9))
    require_free_space(tmp_path / "not" / "there", 10**9, "the world")
    with pytest.raises(DiskSpaceError, match=r"the world needs 2\.00 GB, but 1\.00 GB are free"):
        require_free_space(tmp_path / "not" / "there", 2 * 10**9, "the world")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 120_000))
    with pytest.raises(DiskSpaceError, match=r"a village needs 0\.60 MB, but 0\.12 MB are free"):
        require_free_space(tmp_path, 600_000, "a village")


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    for replaceable in ("missing", "empty", "model"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "model.json").touch()
        require_replaceable(tmp_path / replaceable, "model.json")
    with pytest.raises(DataError, match=r"holds other files \(no model.json among them\)"):
        require_replaceable(tmp_path, "model.json")
    with pytest.raises(DataError, match="is a file"):
        require_replaceable(tmp_path / "model" / "model.json", "model.json")
