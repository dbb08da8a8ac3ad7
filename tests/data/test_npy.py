"""Growing ``.npy`` files have NumPy's own bytes, and are whole or absent."""

import resource

import numpy as np
import pytest

from sustain.data.npy import growing_npy, save_npy
from sustain.errors import DiskSpaceError


@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">f4", "float64"])
def test_the_bytes_are_those_of_numpy(tmp_path, dtype):
    array = np.random.default_rng(0).uniform(0, 250, (7, 2, 3)).astype(dtype)
    np.save(tmp_path / "numpy.npy", array.astype(array.dtype.newbyteorder("<")))
    save_npy(tmp_path / "whole.npy", array)
    with growing_npy(tmp_path / "grown.npy", dtype, (2, 3)) as file:
        assert file.shape == (0, 2, 3)
        file.extend(array[:4])
        file.extend(array[4:4])
        file.extend(array[4:, :, ::-1][:, :, ::-1])
    expected = (tmp_path / "numpy.npy").read_bytes()
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "grown.npy").read_bytes() == expected


def test_an_array_that_does_not_fit_or_a_failure_leaves_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match=r"items have shape \(3,\); expected \(2,\)"),
        growing_npy(tmp_path / "a.npy", "u1", (2,)) as file,
    ):
        file.extend(np.zeros((1, 2)))
        file.extend(np.zeros((1, 3)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("over", [1, 3000, 100_000])
def test_a_disk_that_refuses_the_last_bytes_is_named_and_no_short_file_is_left(tmp_path, over):
    array = np.zeros(50_000, dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(array.nbytes + 128 - over, 1), hard))
    try:
        with pytest.raises(DiskSpaceError, match=r"a\.npy: the disk filled up"):
            save_npy(tmp_path / "a.npy", array)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
