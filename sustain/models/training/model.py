"""Train models on packed tiles, reproducibly and resumably, and write the model folder."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from sustain.config import TrainParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import ConfigError, DataError, HardwareError, HardwareWarning
from sustain.files import atomic_directory, require_replaceable, sha256_of, write_json
from sustain.models.backbones.weights import load_pretrained
from sustain.models.description import MODEL_FILE, LabelStatistics, Target
from sustain.models.folds import Sites, fold_folder, fold_sites, main_rows, plan_folds, seed_of
from sustain.models.hardware import is_out_of_memory, with_precision_there_is
from sustain.models.inputs import describe_extras
from sustain.models.losses import LOSSES
from sustain.models.predictor import WEIGHTS_FILE, ModelDescription
from sustain.models.sites import site_columns, sites_of
from sustain.models.statistics import band_statistics
from sustain.models.training.fit import Fitted, fit_network, rank, reproducible
from sustain.models.training.loader import TileBatches
from sustain.models.training.scratch import Scratch, fingerprint, store_identity

__all__ = ["CURVES_FILE", "train"]

CURVES_FILE = "curves.csv"

_CHUNK = 256


def train(
    tiles: str | Path,
    out: str | Path,
    params: TrainParams,
    seed: int,
    tensorboard: str | Path | None = None,
) -> None:
    """Train on the split ``train``, stop and choose the epoch by the split ``val``.

    The weights kept are those of the epoch with the least validation loss. On a CPU, the same tiles, parameters, seed
    and versions give the same weights, to the bit; also when the process is killed on the way and run again, because
    it goes on at the last finished epoch.

    With ``params.members`` above 1, as many networks are trained from different seeds, and their mean is the model.
    With ``params.crossfit`` K, the model also learns from the split ``calibration``, and K more models are trained,
    each without one fold of whole blocks of ``train``, ``val`` and ``calibration``, so that each of these sites gets
    a prediction from a model that never saw its block (`sustain.models.survey.predict_survey`).

    Parameters
    ----------
    tiles : str or Path
        Folder of packed tiles (`sustain.data.tiles.packed`).
    out : str or Path
        Folder to write: ``weights.safetensors``, ``model.json``, ``curves.csv`` (one row an epoch, the mean of the
        members that reached it; losses in squared standard deviations of the label), and ``folds/K/`` alike. It appears
        whole, when training has ended, or not at all. What is unfinished waits in ``.resume/`` beside it.
    params : TrainParams
        Network and schedule.
    seed : int
        Seed of the initial weights, the order of tiles and their augmentation.
    tensorboard : str or Path, optional
        Folder for TensorBoard's event files: ``<name of out>/member-K``, and ``<name of out>/folds/J/member-K``. They
        hold times and the machine's name, so keep them out of what is published.

    Raises
    ------
    ConfigError
        When ``params.crop_px`` exceeds a tile, or `tensorboard` is asked for and no package writes it.
    DataError
        When `out` is a folder of something else, a split is empty, labels do not vary, or a band has no valid pixel
        in the training split.
    ModelError
        When the backbone is unknown or sees more than a tile, or pretrained weights cannot be had.
    HardwareError
        When a GPU is asked for and absent, or memory does not suffice for half the batch either.

    Warns
    -----
    HardwareWarning
        When memory did not suffice, and the batch was halved (with twice the accumulation, so that steps are as large);
        when bfloat16 is asked for on a CPU, which trains in float32. ``model.json`` has the precision that was used.
    """
    out = Path(out)
    require_replaceable(out, MODEL_FILE)
    store = TileStore.open(tiles)
    params = with_precision_there_is(params)
    scratch = Scratch(out)
    plans = {".": Sites(main_rows(store, params.crossfit > 0), store.rows("val"))}
    if params.crossfit:
        folds = plan_folds(store, params.crossfit, seed)
        plans |= {fold_folder(k): fold_sites(store, folds, k, seed) for k in range(params.crossfit)}
    logs = None if tensorboard is None else Path(tensorboard) / out.name
    models = {}
    for number, (name, sites) in enumerate(plans.items()):
        title = "train" if name == "." else f"train {name}"
        models[name] = _train_model(
            store, sites, params, seed_of(seed, number), scratch, title, None if logs is None else logs / name
        )
    if rank() > 0:
        return  # the first process writes
    with atomic_directory(out) as folder:
        for name, model in models.items():
            shutil.copytree(model, folder / name, dirs_exist_ok=True)
    scratch.clear()


def _train_model(
    store: TileStore,
    sites: Sites,
    params: TrainParams,
    seed: int,
    scratch: Scratch,
    title: str,
    logs: Path | None,
) -> Path:
    """Train the members of one model into a finished folder of the scratch; return it."""
    description = _describe(store, sites, params, seed)
    key = fingerprint(
        description.model_dump(mode="json")
        | {"tiles": store_identity(store), "pretrained": _pretrained(params)},
        sites.training,
        sites.validation,
    )
    place = scratch.place(key)
    if (done := place / "model").is_dir():
        return done
    labels = (store.index["label"].to_numpy() - description.label.mean) / description.label.std

    def batches(rows: NDArray[np.int64]) -> TileBatches:
        columns = site_columns(sites_of(store, rows), description.extras.needs, len(rows), "the network")
        return TileBatches(store, rows, labels[rows], columns)

    weights: dict[str, Tensor] = {}
    histories = []
    for member in range(params.members):
        more = f" {member + 1}/{params.members}" if params.members > 1 else ""
        fitted = _fit_member(
            description,
            batches(sites.training),
            batches(sites.validation),
            params,
            member,
            place,
            title + more,
            None if logs is None else logs / f"member-{member}",
        )
        for name, value in fitted.weights.items():
            weights[name.replace("backbones.0.", f"backbones.{member}.", 1)] = value
        histories.append(fitted.history.astype({"epoch": int}))
    if rank() == 0:
        if params.stack:
            with reproducible(seed, params.threads):
                weights = _fit_stack(description, weights, batches(sites.training))
        with atomic_directory(done) as folder:
            # Not save_file, which makes the file readable by its owner alone.
            (folder / WEIGHTS_FILE).write_bytes(save(weights))
            sha256 = sha256_of(folder / WEIGHTS_FILE)
            page = description.model_copy(update={"weights_sha256": sha256})
            write_json(folder / MODEL_FILE, page.model_dump())
            curves = pd.concat(histories).groupby("epoch", as_index=False).mean()
            curves.to_csv(folder / CURVES_FILE, index=False, float_format="%.6g", lineterminator="\n")
    return done


def _describe(store: TileStore, sites: Sites, params: TrainParams, seed: int) -> ModelDescription:
    if params.crop_px is not None and params.crop_px > store.tile_px:
        raise ConfigError(
            f"train.crop_px is {params.crop_px}, but a tile of {store.folder} has {store.tile_px} pixels: choose a "
            "smaller part, or null for the whole tile."
        )
    labels = store.index["label"].to_numpy()[sites.training]
    if not labels.std() > 0:
        raise DataError(
            f"{store.folder}: the {len(labels)} training labels do not vary; there is nothing to learn."
        )
    return ModelDescription(
        **store.format.model_dump(),
        backbone=params.backbone,
        members=params.members,
        views=params.views,
        stack=params.stack,
        head=LOSSES[params.loss],
        extras=describe_extras(store, sites.training, params.inputs),
        statistics=band_statistics(store, sites.training),
        label=LabelStatistics(mean=float(labels.mean()), std=float(labels.std())),
        target=Target(name=store.label_name, unit=store.label_unit),
        weights_sha256="0" * 64,
        # A file's name only: model.json is published, and says nothing about the folders of the machine.
        params=params.model_dump(mode="json") | {"weights": params.weights and Path(params.weights).name},
        seed=seed,
        versions={name: version(name) for name in ("sustain", "torch", "timm", "lightning")},
    )


def _pretrained(params: TrainParams) -> str | None:
    """Content of a weights file, or the name of published weights, which carries their hash or version."""
    path = Path(params.weights or "")
    return sha256_of(path) if params.weights and path.is_file() else params.weights


def _fit_stack(
    description: ModelDescription, weights: dict[str, Tensor], training: TileBatches
) -> dict[str, Tensor]:
    """Fit the regressions beside the network on the training tiles."""
    network = description.build()
    stack = network.stack
    if stack is None:
        return weights
    network.load_state_dict(weights, strict=False)

    def bands() -> Iterator[Tensor]:
        for rows in np.array_split(np.arange(len(training)), -(-len(training) // _CHUNK)):
            batch = training[rows]
            yield network.normalise(batch.tiles, batch.sites)[:, : stack.n_bands]

    with torch.inference_mode():
        stack.fit(bands, training.labels.astype(np.float64), description.seed)
    return {name: value.contiguous() for name, value in network.state_dict().items()}


def _fit_member(
    description: ModelDescription,
    training: TileBatches,
    validation: TileBatches,
    params: TrainParams,
    member: int,
    place: Path,
    title: str,
    logs: Path | None,
) -> Fitted:
    seed = seed_of(description.seed, member)

    def fit(params: TrainParams, folder: Path) -> Fitted:
        folder.mkdir(exist_ok=True)
        with reproducible(seed, params.threads):
            network = description.model_copy(update={"stack": False}).build(members=1)
            network.require_tile(params.crop_px or description.tile_px)
            if params.weights is not None:
                load_pretrained(
                    network.backbones[0],
                    params.backbone,
                    params.weights,
                    network.inputs.names,
                    network.inputs.n_channels,
                )
            return fit_network(network, training, validation, params, seed, folder, title, logs)

    # A batch that was too large once is too large for the rest of the run, and when it is resumed.
    halved = params.model_copy(
        update={"batch_size": -(-params.batch_size // 2), "accumulate": 2 * params.accumulate}
    )
    if not (smaller := place / f"member-{member}-halved").is_dir():
        try:
            return fit(params, place / f"member-{member}")
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if params.devices > 1 or params.batch_size < 4:
                raise HardwareError(
                    f"batch_size {params.batch_size} does not fit the device's memory: lower it, and raise accumulate "
                    f"by as much ({error})."
                ) from error
    warnings.warn(
        f"batch_size {params.batch_size} does not fit the device's memory; going on with {halved.batch_size}, and "
        f"{halved.accumulate} batches a step.",
        HardwareWarning,
        stacklevel=4,
    )
    try:
        return fit(halved, smaller)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise HardwareError(
                f"batch_size {halved.batch_size}, half of what was asked, does not fit the device's memory either "
                f"({error}). Use smaller tiles or another backbone."
            ) from error
        raise
