"""A small set of artefacts as the stages write them, with numbers that a test can choose."""

import functools
import json

import numpy as np
import pandas as pd
import rasterio
from scipy.special import ndtr, ndtri

from sustain.config import (
    Params,
    PublishParams,
    ReportParams,
    SyntheticWorldParams,
)
from sustain.debias import build_card, diagnose
from sustain.debias.judge.evaluation import correction_curves
from sustain.files import write_json
from sustain.maps.correct.raster import correct_raster
from sustain.stage import Artefacts
from sustain.trials.results import TrialResult, write_results

UNIT = "index points"


def params(source="synthetic", **sections):
    acquire = SyntheticWorldParams() if source == "synthetic" else None
    return Params(
        source=source,
        seed=7,
        acquire=acquire,
        publish=PublishParams(title="A map", licence="CC0-1.0"),
        report=ReportParams(title="A made-up map & its <trials>"),
        **sections,
    )


@functools.cache
def survey(n=480, slope=0.6, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n) + 0.4 * rng.exponential(size=n)
    pred = slope * truth + rng.normal(scale=0.35, size=n)
    split = np.resize(["calibration", "calibration", "calibration", "test", "test"], n)
    return pd.DataFrame(
        {
            "id": [f"XA-2016-9#-{i:08d}" for i in range(n)],
            "lat": 0.3 * np.modf(np.arange(n) * 0.7548777)[0],
            "lon": 0.3 * np.modf(np.arange(n) * 0.5698403)[0],
            "year": 2016,
            "country": "XA",
            "urban": rng.random(n) < 0.4,
            "n": 22,
            "block": [f"b{i // 8}" for i in range(n)],
            "split": split,
            "y_true": truth,
            "y_pred": pred,
            "y_pred_nightlights": 0.3 * truth + rng.normal(scale=0.6, size=n),
        }
    )


def card(table):
    sample = table[table["split"] == "calibration"]
    return build_card(
        sample["y_pred"],
        sample["y_true"],
        groups=sample["block"],
        strata=sample["urban"].map({True: "urban", False: "rural"}),
        lon=sample["lon"],
        lat=sample["lat"],
        target={"name": "asset_index", "unit": UNIT},
        predictor={"id": "resnet_narrow-0123456789ab", "sha256": "0" * 64},
        n_boot=40,
        seed=1,
        years=[2016],
        countries=["XA"],
    )


def raw_map(path, shift=0.0, size=40):
    y, x = np.mgrid[:size, :size] / size
    rng = np.random.default_rng(3)
    wealth = 0.9 * np.sin(5 * x) * np.cos(4 * y) + 0.2 * rng.normal(size=(size, size)) + shift
    wealth[: size // 6, : size // 5] = np.nan
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="float32",
        count=1,
        nodata=np.nan,
        height=size,
        width=size,
        crs="EPSG:3857",
        transform=rasterio.Affine(960, 0, 0, 0, -960, 0),
    ) as target:
        target.write(wealth.astype("float32"), 1)
        target.set_band_description(1, "wealth_raw")
    return path


def estimate(method, value, error):
    return {
        "method": method,
        "estimate": value,
        "std_error": error,
        "conf_low": value - 1.96 * error,
        "conf_high": value + 1.96 * error,
        "level": 0.95,
        "share_var_calibration": 0.1,
        "notes": [],
    }


def read_back(value, differs=False):
    alike = {"alike": value + 0.01, "alike_low": value - 0.09, "alike_high": value + 0.11}
    return {"slope": 0.61, **alike, "differs": differs, "extrapolated": 0.03}


def distribution(gain):
    """Two normal distributions, `gain` apart."""
    at = np.linspace(-2.5, 3.0, 25)
    curves = {"truth": at.tolist()}
    for arm, shift in (("control", 0.0), ("treated", gain)):
        share = ndtr(at - shift)
        ends = {"": share, ".low": np.maximum(share - 0.03, 0), ".high": np.minimum(share + 0.03, 1)}
        curves |= {f"{arm}{end}": values.tolist() for end, values in ends.items()}
    heads = [("headcount", line, float(ndtr(line)), float(ndtr(line - gain)), 0.03) for line in (-0.8, -0.2)]
    moved = [
        ("quantile", q, float(ndtri(q)), float(ndtri(q)) + gain, 0.1) for q in (0.1, 0.25, 0.5, 0.75, 0.9)
    ]
    moved += [("gain", (k + 1) / 3, k - 1.0, k - 1.0 + gain, 0.1) for k in range(3)] + [
        ("mean", 1.0, 0.0, gain, 0.1)
    ]
    names = ("kind", "at", "control", "treated", "effect", "conf_low", "conf_high")
    measures = [
        dict(zip(names, (kind, place, off, on, on - off, on - off - half, on - off + half), strict=True))
        for kind, place, off, on, half in heads + moved
    ]
    return {"level": 0.95, "measures": measures, "curves": curves}


def trial(
    name="villages", assumption="measurement", naive=0.3, linear=0.5, tweedie=0.53, truth=None, error=0.04
):
    titles = {
        "villages": "A programme randomised over villages",
        "districts": "A reform randomised over districts",
        "towns": "Town against country",
    }
    content = {
        "name": name,
        "title": titles.get(name, name),
        "question": "By how much does it raise wealth?",
        "assumption": assumption,
        "why": "Because the design says so.",
        "estimator": "difference",
        "vcov": "HC1",
        "n_treated": 120,
        "n_control": 118,
        "reported": "response" if assumption == "measurement" else "none",
        "truth": truth,
        "distribution": distribution(linear) if assumption == "measurement" else None,
        "estimates": [
            estimate("none", naive, 0.6 * error),
            estimate("response", linear, error) | {"read_back": read_back(linear, name == "districts")},
            estimate("linear", linear, error),
            estimate("tweedie", tweedie, error),
        ],
    }
    return TrialResult.from_dict(content)


def three_trials():
    return [
        trial(),
        trial("districts", naive=0.22, linear=0.37, tweedie=0.4, error=0.09),
        trial("towns", "outcome", naive=1.22, linear=2.03, tweedie=1.9, error=0.06),
    ]


def contrasts(n=12):
    rng = np.random.default_rng(5)
    values = rng.normal(scale=0.4, size=n)
    return [
        trial(
            f"World Bank {i}, agriculture, forestry and fishing",
            "outcome",
            value + 0.03,
            1.5 * value,
            1.3 * value,
            truth=value,
        )
        for i, value in enumerate(values)
    ]


MODEL = {
    "backbone": "resnet_narrow",
    "bands": ["BLUE", "GREEN", "RED"],
    "tile_px": 64,
    "pixel_m": 30.0,
    "params": {"backbone": "resnet_narrow", "batch_size": 64, "learning_rate": 0.002},
    "versions": {"torch": "2.9", "sustain": "0.1"},
    "seed": 7,
}
TRUTH = {"villages": 0.5, "districts": 0.4, "towns": 1.2}


def published(places):
    """Write what a source of published models and maps holds beside the rest."""
    rng = np.random.default_rng(2)
    models, methods = (
        ["resnet_18_ms", "knn_nl_mean_scalar", "ridge_rgbnl_hist"],
        ["none", "linear", "tweedie"],
    )
    table = pd.DataFrame([{"model": m, "method": c} for m in models for c in methods])
    table = table.assign(n=1450, bias=0.1, rmse=0.5, r2=rng.uniform(0.3, 0.7, len(table)), slope=0.8)
    scott = pd.DataFrame(
        [{"model": "resnet_18_ms", "method": "tweedie_scott", "r2": 0.1, "rmse": 0.75, "slope": 0.97}]
    )
    errors = table.assign(n_contrasts=12, mae_sd=0.1, mae=np.where(table["method"] == "none", 0.06, 0.4))
    tenths = pd.DataFrame(
        [
            {"model": m, "by": by, "method": c, "tenth": i, "mean_true": i / 5 - 1, "bias": 0.1 * i - 0.5}
            for m in models
            for by in ("survey", "map")
            for c in methods
            for i in range(1, 11)
        ]
    )
    crossfit = places.calibration.with_name(f"{places.source}-crossfit")
    against = places.maps.with_name(f"{places.source}-survey")
    for folder in (crossfit, against):
        folder.mkdir(parents=True)
    pd.concat([table, scott]).assign(folds="spatial").to_csv(crossfit / "models.csv", index=False)
    abroad = [
        {"country": n, "method": c, "slope": 0.7, "bias": 0.1} for n in ("angola", "mali") for c in methods
    ]
    pd.DataFrame(abroad).to_csv(crossfit / "countries.csv", index=False)
    gaps = pd.DataFrame(
        {"contrast": range(12), "truth_gap": rng.normal(0, 0.05, 12), "truth_gap_std_error": 0.03}
    )
    gaps = gaps.assign(prediction_gap=0.3 + gaps["truth_gap"], prediction_gap_std_error=0.04, slope=0.6)
    gaps.to_csv(places.effects / "stability.csv", index=False)
    errors.to_csv(places.effects / "scores.csv", index=False)
    pd.concat([table.assign(level="place"), table.assign(level="area", n=54)]).to_csv(
        against / "agreement.csv", index=False
    )
    tenths.assign(std_error=0.02).to_csv(against / "tenths.csv", index=False)
    write_results(places.effects.with_name(f"{places.source}-map"), contrasts(10))


@functools.cache
def made_card():
    return card(survey())


@functools.cache
def diagnosis():
    sample = survey()[survey()["split"] == "calibration"]
    return diagnose(sample["y_pred"], sample["y_true"], groups=sample["block"]).to_dict()


def artefacts(
    root, source="synthetic", trials=None, truth=TRUTH, model=True, maps=True, endline=True, predictions=True
):
    """Write the artefacts of a source under `root` and return their places."""
    places = Artefacts(source, root)
    table = survey()
    made = made_card()
    made.save(places.card)
    correction_curves(made).to_csv(places.calibration / "curves.csv", index=False)
    write_json(places.calibration / "diagnostics.json", diagnosis())
    trials = three_trials() if trials is None else trials
    write_results(places.effects, trials)
    if truth:
        entries = {name: {"effect": value, "definition": "mean change"} for name, value in truth.items()}
        write_json(places.truth / "truth.json", {"trials": entries})
    if predictions:
        places.predictions.mkdir(parents=True)
        table.to_parquet(places.predictions / "survey.parquet", index=False)
        scores = {"pearson_r2": 0.7, "rmse": 0.5, "slope": 0.6}
        test = {"cnn": {"r2": 0.71, **scores}, "nightlights": {"r2": 0.38, **scores}, "n": 192}
        write_json(places.predictions / "metrics.json", {"test": test})
    if model:
        write_json(places.model / "model.json", MODEL)
        epochs = np.arange(1, 13)
        pd.DataFrame(
            {
                "epoch": epochs,
                "train_loss": 0.9 / epochs + 0.1,
                "val_loss": 0.6 / epochs + 0.28 + 0.01 * epochs,
                "learning_rate": 1e-3,
            }
        ).to_csv(places.model / "curves.csv", index=False)
    if maps:
        names = ["wealth", "wealth_endline"] if endline else ["wealth"]
        for name in names:
            raw = raw_map(places.maps / f"{name}.tif", shift=0.1 * (name != "wealth"))
            correct_raster(raw, places.maps / f"{name}_corrected.tif", made)
    return places


def edit(path, change):
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
