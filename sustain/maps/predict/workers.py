"""Who predicts the blocks: this process, reading ahead; or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sustain.errors import ClusterError, SustainError
from sustain.maps.grid import Block
from sustain.maps.imagery.mosaic import Mosaic
from sustain.maps.imagery.open import open_imagery
from sustain.maps.imagery.scene import Scene
from sustain.maps.predict.exact import BlockWork

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Finished", "predict_here", "predict_on_cluster"]

Finished = Iterator[tuple[Block, npt.NDArray[np.float32]]]
"""Blocks and their bands, shape (bands, rows, cols), one by one as they are finished."""

_AHEAD = 3  # blocks that wait for a worker: enough to keep it busy, few enough for the scheduler's memory


def predict_here(scene: Scene | Mosaic, work: BlockWork, blocks: Sequence[Block]) -> Finished:
    """Predict blocks one after the other, while a thread reads the next one's imagery.

    Yields
    ------
    (Block, ndarray of float32, shape (2 or 3, rows, cols))
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-imagery") as reader:
        ahead = [reader.submit(scene.read, block.window) for block in blocks[:1]]
        for i, block in enumerate(blocks):
            with _naming(block):
                pixels = ahead.pop().result()
            if i + 1 < len(blocks):
                ahead.append(reader.submit(scene.read, blocks[i + 1].window))
            with _naming(block):
                values = work.predict(block, pixels)
            yield block, values


def predict_on_cluster(
    scene: str | Path | Sequence[str | Path] | Mosaic,
    work: BlockWork,
    blocks: Sequence[Block],
    client: Client,
) -> Finished:
    """Predict blocks on the workers of a Dask cluster, in the order in which they finish.

    Yields
    ------
    (Block, ndarray of float32, shape (2 or 3, rows, cols))

    Raises
    ------
    ClusterError
        When there are no workers, the scheduler goes away, or a block fails again and again with its worker.
    """
    import distributed
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    if not blocks:
        return
    cluster: Any = client  # most of its methods have no types
    n_threads = sum(cluster.nthreads().values())
    if not n_threads:
        raise ClusterError("the Dask cluster has no workers. Start some at its scheduler, and run again.")
    try:
        # The model goes out once, to every worker; a worker that joins later takes it from another.
        shared = cluster.scatter(_Shared(work, scene), broadcast=True, hash=False)
        waiting = iter(blocks)
        where: dict[Any, Block] = {}

        def submit(block: Block) -> Any:
            future = cluster.submit(_predict_window, shared, block, pure=False)
            where[future.key] = block
            return future

        completed: Any = distributed.as_completed
        running = completed(
            [submit(block) for _, block in zip(range(_AHEAD * n_threads), waiting, strict=False)]
        )
        for future in running:
            block = where.pop(future.key)
            with _naming(block):
                values = future.result()
            for following in waiting:
                running.add(submit(following))
                break
            yield block, values
    except KilledWorker as error:
        raise ClusterError(
            f"a block killed its worker several times over ({error}). Its finished neighbours are kept. Give the "
            "workers more memory, or make blocks smaller (block_cells)."
        ) from error
    except (CommClosedError, FutureCancelledError, TimeoutError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(
            f"the Dask cluster went away ({reason}). Finished blocks are kept: run again, here or on another cluster, "
            "to go on from them."
        ) from error


@dataclass(frozen=True)
class _Shared:
    """What every worker needs: the model, and where the imagery is."""

    work: BlockWork
    scene: str | Path | Sequence[str | Path] | Mosaic


def _predict_window(shared: _Shared, block: Block) -> npt.NDArray[np.float32]:
    """Read and predict one block, on a worker."""
    work = shared.work
    try:
        with open_imagery(shared.scene, work.predictor, work.params) as source:
            return work.predict(block, source.read(block.window))
    except SustainError as error:
        # Alone: with a cause from GDAL, which cannot be sent, it would come home as a bare Exception.
        failure = type(error)(*error.args)
    raise failure


@contextmanager
def _naming(block: Block) -> Iterator[None]:
    """Say of any error which block it came from."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the block at cell row {block.cells.row}, column {block.cells.col} of the map")
        raise
