"""The typed content of ``params.yaml``: one model a stage, one profile a source.

``params.yaml`` holds one switch, ``source``, and one profile per source. A stage script reads its own section
through `load_params`; an unknown or mistyped key is an error that names it.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sustain.errors import ConfigError

__all__ = [
    "AcquireParams",
    "AidTrialsParams",
    "CalibrateParams",
    "CorrectParams",
    "DownloadParams",
    "EffectsParams",
    "LocalParams",
    "MapParams",
    "Params",
    "PredictParams",
    "PublishParams",
    "ReportParams",
    "SurveyPredictionsParams",
    "SyntheticWorldParams",
    "TilesParams",
    "TrainParams",
    "load_params",
]

Fitted = Literal["linear", "tweedie", "response"]
CellMethod = Literal["none", "linear", "tweedie"]
EffectMethod = Literal["none", "response", "linear", "tweedie"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SyntheticWorldParams(_Section):
    """Size and difficulty of the embedded world (`sustain.data.synthetic`)."""

    kind: Literal["synthetic"] = "synthetic"
    scene_px: int = Field(2560, gt=0, description="Side of the square scene, in pixels.")
    tile_px: int = Field(64, gt=0, description="Side of a survey tile, in pixels.")
    pixel_m: float = Field(30.0, gt=0, description="Side of a pixel, in metres.")
    n_sites: int = Field(2000, gt=0, description="Number of survey sites.")
    urban_share: float = Field(0.2, gt=0, lt=1, description="Share of the sites that lie in towns.")
    households: int = Field(22, ge=5, description="Households averaged into one label; SustainBench wants 5.")
    household_sd: float = Field(
        1.0, ge=0, description="Spread of wealth between neighbours, in index points."
    )
    effect_villages: float = Field(0.5, description="True effect of trial (a), in units of the wealth index.")
    effect_districts: float = Field(
        0.4, description="True effect of trial (b), in units of the wealth index."
    )


class _SurveySource(_Section):
    trials: str | None = Field(
        None, description="Folder of your trials.json and its tables of tiles (`sustain.trials.tiles`)."
    )


class DownloadParams(_SurveySource):
    """Published files to fetch and verify (`sustain.data.fetch.published`)."""

    kind: Literal["download"] = "download"
    manifests: list[str] = Field(
        min_length=1, description="Names of files in data_manifests/, without suffix."
    )


class LocalParams(_SurveySource):
    """Your own tiles and label table (`sustain.data.tiles.local`)."""

    kind: Literal["local"] = "local"
    tiles: str = Field(min_length=1, description="Folder of GeoTIFF tiles, one a site.")
    table: str = Field(
        min_length=1, description="Table of the sites, one row a tile: CSV, Parquet, Stata, SPSS or Excel."
    )


AcquireParams = Annotated[SyntheticWorldParams | DownloadParams | LocalParams, Field(discriminator="kind")]


class TilesParams(_Section):
    """How raw tiles become packed shards, and how sites are split (`sustain.data.tiles.packed`, `splits`)."""

    label: str = Field("asset_index", description="Label column of the SustainBench table.")
    label_unit: str = Field(
        "1", description="Unit of the label, for a local source only; other sources know theirs."
    )
    columns: dict[str, str] = Field(
        default={},
        description="For a local source only: the house's name (id, lat, lon, ...) -> that column in your table.",
    )
    pixel_m: float = Field(
        30.0, gt=0, description="Side of a pixel, in metres, of tiles that do not say it; own GeoTIFFs do."
    )
    shard_size: int = Field(2048, gt=0, description="Tiles in one shard file.")
    block_km: float = Field(10.0, gt=0, description="Side of a spatial block; a block is never divided.")
    shares: dict[Literal["train", "val", "calibration", "test"], float] = Field(
        default={"train": 0.45, "val": 0.1, "calibration": 0.25, "test": 0.2},
        description="Share of the sites in each part; the parts are disjoint sets of blocks.",
    )

    @model_validator(mode="after")
    def _shares_add_up(self) -> TilesParams:
        if set(self.shares) != {"train", "val", "calibration", "test"}:
            raise ValueError(f"shares needs train, val, calibration and test; got {sorted(self.shares)}")
        if any(share <= 0 for share in self.shares.values()) or abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"shares must be positive and add up to 1; got {self.shares}")
        return self


class TrainParams(_Section):
    """The CNN and its training (`sustain.models`)."""

    backbone: str = Field(
        "resnet_narrow",
        description="A network of `sustain.models.backbones.by_name`, or a simple model of `sustain.models.simple`.",
    )
    weights: str | None = Field(
        None,
        description="Weights to start from: `imagenet`, a torchgeo name or a path; null starts at random, offline.",
    )
    inputs: tuple[Literal["lights_by_sensor", "year", "location"], ...] = Field(
        (),
        description="What the network sees besides the bands: lights of DMSP and VIIRS apart, year, place.",
    )
    loss: Literal["mse", "huber", "ratledge", "gaussian", "beta_gaussian"] = Field(
        "mse", description="Name in `sustain.models.losses.LOSSES`; the last two learn a variance too."
    )
    bias_weight: float = Field(
        1.0, ge=0, description="Lambda of the Ratledge loss, on the largest squared quintile bias."
    )
    epochs: int = Field(20, gt=0)
    batch_size: int = Field(64, gt=1, description="Tiles on one device at once.")
    accumulate: int = Field(1, gt=0, description="Batches whose gradients are added up before a step.")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    patience: int = Field(8, gt=0, description="Epochs without a better validation loss before stopping.")
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of a moving average of the weights; the average is the model. 0 keeps no average.",
    )
    jitter: float = Field(
        0.0, ge=0, le=0.5, description="Random gain and shift of each band, in standard deviations."
    )
    crop_px: int | None = Field(
        None,
        gt=0,
        description="Train on random square parts of the tiles, so many pixels a side; null trains on whole tiles.",
    )
    members: int = Field(1, gt=0, le=16, description="Networks from different seeds whose mean is the model.")
    stack: bool = Field(
        False,
        description="Average the network with two ridge regressions, on moments and on random convolutions of the "
        "bands; for few labels.",
    )
    views: Literal[1, 2, 4, 8] = Field(
        1, description="Predict so many turned and mirrored copies of each tile, and take their mean."
    )
    crossfit: int = Field(
        0,
        ge=0,
        description="Folds; one more model is trained a fold, so that every site has an out-of-sample prediction.",
    )
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = Field(1, gt=0, description="Devices, each with its own process (DDP) when more than one.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Precision of the forward pass on a GPU (autocast); a CPU trains in float32."
    )
    channels_last: bool = Field(True, description="Memory layout that convolutions are fastest in.")
    compile: bool = Field(
        False, description="Use torch.compile: it takes minutes at the start and is faster from then on."
    )
    workers: int = Field(
        0, ge=0, description="Processes that read tiles ahead; 0 reads in the training loop."
    )
    threads: int = Field(2, gt=0, description="CPU threads; fixed, because sums depend on it.")

    @model_validator(mode="after")
    def _sensible(self) -> TrainParams:
        if self.crossfit == 1:
            raise ValueError("crossfit needs at least 2 folds, or 0 for none")
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"inputs repeats a name: {list(self.inputs)}")
        return self


class PredictParams(_Section):
    """Predictions at the survey sites."""

    batch_size: int = Field(256, gt=0)


class SurveyPredictionsParams(_Section):
    """Somebody else's predictions, brought into the house's table ("bring your own map")."""

    model: str = Field(description="Column of predictions by the model that made the map.")
    hold_out_country: str | None = Field(None, description="Country kept out of the calibration sample.")
    block_km: float = Field(100.0, gt=0, description="Side of a spatial block; a block is never divided.")
    folds: int = Field(5, ge=2, description="Spatial folds of whole blocks, for cross-fitted calibrations.")


class CalibrateParams(_Section):
    """What is learned from the calibration split (`sustain.debias`)."""

    groups: str = Field("block", description="Column of clusters for covariances and the bootstrap.")
    n_boot: int = Field(200, ge=20, description="Bootstrap draws stored in the card.")
    methods: list[Fitted] = Field(
        default=["linear", "tweedie", "response"], min_length=1, description="Corrections in the card."
    )
    score: Literal["mixture", "kde", "scott"] = Field("mixture", description="Score of Tweedie's correction.")
    household_sd: float = Field(
        0.0,
        ge=0,
        description="Standard deviation of the label between a place's households: gives the noise of labels.",
    )
    licence: str = Field(
        "", description="Licence of the card; that of the map is said where it is published."
    )
    citation: str = Field("", description="How to cite the card.")


class MapParams(_Section):
    """Wall-to-wall prediction (`sustain.maps.predict`), or a table of the survey's tiles where there is no scene."""

    kind: Literal["scene", "survey_tiles"] = Field(
        "scene",
        description="A raster from imagery, or a table of survey tiles; everything below is for rasters only.",
    )
    spacing_px: int = Field(32, gt=0, description="Distance between cells, in pixels of the imagery.")
    block_cells: int = Field(16, gt=0, description="Cells along one side of a work block.")
    batch_size: int = Field(256, gt=0)
    min_coverage: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of a tile's pixels that must hold imagery; with less there is no prediction.",
    )
    mode: Literal["exact", "dense"] = Field(
        "exact",
        description="Predict each tile alone, or a block in one pass, where the model gives the same.",
    )
    dense_tolerance: float = Field(
        1e-3,
        gt=0,
        description="Largest difference allowed between dense and exact predictions, in the target's unit.",
    )
    crs: str | None = Field(
        None,
        description="Reproject imagery to this system, in metres, at the model's pixel size; `auto` chooses one.",
    )
    resampling: Literal["nearest", "bilinear", "cubic", "average"] = Field(
        "bilinear",
        description="How pixels are brought onto that grid; which are missing, the nearest pixel says.",
    )
    stac_bands: dict[str, str] = Field(
        default={}, description="The model's name of a band -> its name in STAC items, where the two differ."
    )


class CorrectParams(_Section):
    """Correction of the map (`sustain.maps.correct.raster`)."""

    method: CellMethod = Field(
        "linear",
        description="Correction in the `wealth` band: one function of the prediction for every cell.",
    )


class AidTrialsParams(_Section):
    """Trials made of aid projects (`sustain.data.aid`)."""

    degrees: float = Field(0.1, gt=0, description="Reach of a project, in degrees of latitude and longitude.")
    years: tuple[int, int] = Field(
        (3, 8), description="Fewest and most years between a project's start and the survey."
    )
    min_arm: int = Field(30, ge=2, description="Fewest places in each arm.")
    reference: dict[str, float] = Field(
        default={},
        description="Mean absolute errors by method, in sd, of an independent calculation; shown beside ours.",
    )
    remark: str = Field("", description="What a reader should know about that comparison.")


class EffectsParams(_Section):
    """Treatment effects from the map (`sustain.causal`)."""

    methods: list[EffectMethod] = Field(default=["none", "response", "linear", "tweedie"], min_length=1)
    correction: EffectMethod = Field(
        "response", description="Which of them is reported where a trial's assumption asks for a correction."
    )
    level: float = Field(0.95, gt=0, lt=1, description="Confidence level of the intervals.")
    poor: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default=[0.2, 0.4],
        description="Poverty lines for headcounts: shares of the calibration sample that lie below.",
    )
    aid: AidTrialsParams | None = Field(None, description="Build trials of aid projects from survey places.")

    @model_validator(mode="after")
    def _reports_what_it_estimates(self) -> EffectsParams:
        if self.correction not in self.methods:
            raise ValueError(
                f"correction {self.correction!r} is not among methods ({', '.join(self.methods)}): add it there, or "
                "name one of them"
            )
        return self


class ProviderParams(_Section):
    """Who made or hosts a published map."""

    name: str = Field(min_length=1)
    url: str = ""
    roles: list[Literal["licensor", "producer", "processor", "host"]] = Field(
        default=["producer"], min_length=1, description="As STAC has them."
    )


class PublishParams(_Section):
    """The published folder (`sustain.maps.publish`). What is empty is not known: nothing is made up for it."""

    title: str = Field("", description="What the map is called; required for publishing.")
    description: str = Field("", description="A sentence or two, at the head of the map card.")
    start: date | None = Field(
        None,
        description="First day of the imagery; required for publishing, but for survey tiles that have years.",
    )
    end: date | None = Field(None, description="Last day of the imagery; goes with start.")
    licence: str = Field("", description="Licence of the product (SPDX, or a text); required for publishing.")
    imagery_licence: str = ""
    labels_licence: str = Field(
        "", description="Licence or terms of the survey labels, which are not published."
    )
    providers: list[ProviderParams] = []
    citation: str = ""
    doi: str = Field(
        "", description="Such as 10.5281/zenodo.123.", pattern=r"^(10\.[0-9a-zA-Z]{4,}/[^\s]+)?$"
    )
    keywords: list[Annotated[str, Field(min_length=1)]] = []
    version: str = Field("", description="Of the product, such as 1.0; raise it when you publish it anew.")
    created: date | None = Field(
        None,
        description="Day of the publication; by default that of SOURCE_DATE_EPOCH, else none is said: the clock would "
        "give other bytes every time.",
    )
    coordinates: bool | None = Field(
        None,
        description="Whether a table of survey tiles holds the survey's coordinates and ids; by default where all "
        "manifests say that their terms allow it, and not for your own tiles.",
    )
    areas: str | None = Field(
        None, description="Vector file of areas, such as districts, whose means are published as areas.csv."
    )
    areas_key: str | None = Field(None, description="Column of that file that names the areas.")
    areas_layer: str | None = Field(None, description="Layer of that file, where it has several.")
    people: str | None = Field(
        None,
        description="Raster of people per cell, which weights an area's cells; without it ground area does.",
    )
    people_per_km2: bool = Field(
        False, description="Whether it holds people per square kilometre rather than counts."
    )

    @model_validator(mode="after")
    def _areas_with_names(self) -> PublishParams:
        if (self.areas is None) != (self.areas_key is None):
            raise ValueError("areas and areas_key go together: a vector file, and its column of names")
        if self.areas_layer is not None and self.areas is None:
            raise ValueError("areas_layer is a layer of areas: give areas and areas_key too")
        if self.people_per_km2 and self.people is None:
            raise ValueError("people_per_km2 says what people holds: give that raster too")
        if self.people is not None and self.areas is None:
            raise ValueError("people weigh the cells of areas: give areas and areas_key too")
        return self

    @model_validator(mode="after")
    def _dates_in_order(self) -> PublishParams:
        if (self.start is None) != (self.end is None):
            raise ValueError("give both start and end, or neither")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}")
        return self


class ReportParams(_Section):
    """The page (`sustain.report`)."""

    title: str = Field("Wealth map and effects", min_length=1)


class Params(_Section):
    """One source's parameters. A stage that the source does not have is ``None``."""

    source: str
    seed: int = Field(ge=0)
    acquire: AcquireParams | None = None
    tiles: TilesParams | None = None
    train: TrainParams | None = None
    predict: PredictParams | SurveyPredictionsParams | None = None
    calibrate: CalibrateParams | None = None
    map: MapParams | None = None
    correct: CorrectParams | None = None
    effects: EffectsParams | None = None
    publish: PublishParams | None = None
    report: ReportParams | None = None

    @property
    def maps_survey_tiles(self) -> bool:
        """Whether the map is a table of survey tiles, because there is no scene."""
        return self.map is not None and self.map.kind == "survey_tiles"

    @model_validator(mode="after")
    def _corrections_are_in_the_card(self) -> Params:
        held = {"none", *(self.calibrate.methods if self.calibrate else get_args(Fitted))}
        asked: set[str] = {self.correct.method} if self.correct else set()
        if self.effects:
            asked |= {*self.effects.methods}
        if asked - held:
            raise ValueError(
                f"correct and effects use {', '.join(sorted(asked - held))}, which calibrate.methods does not fit"
            )
        return self


def load_params(path: str | Path = "params.yaml", source: str | None = None) -> Params:
    """Read the profile of one source.

    Parameters
    ----------
    path : str or Path
        A YAML file with ``source``, ``seed`` and ``profiles``.
    source : str, optional
        Profile to read; by default the one that the file's ``source`` names.

    Raises
    ------
    ConfigError
        When the file is missing or not YAML, when there is no such profile, or when a key is unknown, missing
        or out of range.
    """
    path = Path(path)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such parameter file. Run from the project's folder, or pass --params."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}: line {line} holds a byte that is not UTF-8 ({error.object[error.start]:#04x}), as Latin-1 files "
            f"do. DVC and YAML want UTF-8; save it as such, for example: iconv -f LATIN1 -t UTF-8 {path} > utf8.yaml"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("profiles"), dict):
        raise ConfigError(f"{path}: expected a mapping with the keys source, seed and profiles.")
    chosen = source or content.get("source")
    profiles = content["profiles"]
    if chosen not in profiles:
        raise ConfigError(
            f"{path}: source is {chosen!r}, but the profiles are {', '.join(sorted(profiles))}."
        )
    try:
        return Params(source=chosen, seed=content.get("seed", 0), **(profiles[chosen] or {}))
    except (ValidationError, TypeError) as error:
        raise ConfigError(f"{path}: profile {chosen!r} is wrong: {_explain(error)}") from error


_SAID = {"extra_forbidden": "no such key", "missing": "is missing"}


def _explain(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'profile'}: {_SAID.get(item['type'], item['msg'])} "
        f"(got {item['input']!r})"
        for item in error.errors()
    )
