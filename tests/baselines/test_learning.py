"""On fixtures that can be learned, baselines beat a constant; and known answers of what they stand on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sustain.baselines.baseline import Constant
from sustain.baselines.landsat import mean_lights
from sustain.baselines.series import composite, fill_gaps
from sustain.baselines.tasks import find_baseline
from sustain.data.sustainbench.tasks import ingest, open_task, score
from tests.dhs_files import COLUMNS, member_name, npz_bytes, plain_tile, write_archive
from tests.hdf5_files import write_hdf5
from tests.sustainbench_files import (
    KILN_COLUMNS,
    cropland_patch,
    kenya_pickle,
    kenya_series,
    kenya_table,
    kiln_images,
    write_kenya,
    write_yield,
    yield_members,
)


def write_survey(folder, n=30, side=8):
    """Sites of three parts, whose wealth is a curve of their lights, another one for each sensor."""
    rng = np.random.default_rng(0)
    tiles, rows = {}, []
    for country in ("AL", "KE", "BF", "TZ", "AO", "RW"):
        for number in range(n // 2):
            year = (2008, 2014)[number % 2]
            name, lights = f"{country}-{year}-5#-{number:08d}", rng.uniform(1, 60)
            wealth = np.log(lights) if year == 2014 else 3 - lights / 20
            tiles[name] = plain_tile(side)
            tiles[name][7] = lights
            tiles[name][0] += 0.01 * wealth
            rows.append({"DHSID_EA": name, "cname": country, "year": year, "urban": "U"}
                        | {"lat": 1.0 + number, "lon": 30.0, "asset_index": wealth, "n_asset": 20})  # fmt: skip
    write_archive(folder / "dhs_AL_ZW.tar.gz", {member_name(k): npz_bytes(x=x) for k, x in tiles.items()})
    pd.DataFrame(rows).reindex(columns=COLUMNS).to_csv(folder / "dhs_final_labels.csv", index=False)


def write_crops(folder, n=90):
    """Fields whose crops green up at different times of the year."""
    table = kenya_table(n)
    table["cropType"] = [("Maize", "Sugar Cane", "Cassava")[i % 3] for i in range(n)]
    series, days = {}, np.arange(365)
    for i, name in enumerate(table["fileName"]):
        field = kenya_series(i, observed=12)
        field[1] = np.where(field[1].mask, 1e20, 900)
        field[7] *= 1 + np.exp(-(((days - (60, 180, 300)[i % 3]) / 40) ** 2))
        field[13] = field[7] / field[2] - 1
        series[name] = kenya_pickle(field)
    write_kenya(folder, series, table)


def write_harvests(folder, n=24):
    """Counties whose histograms' place says their yield."""
    members = yield_members(n)
    for part, seed in (("train", 0), ("dev", 1), ("test", 2)):
        yields = np.random.default_rng(seed).uniform(1, 4, n)
        bins = np.arange(32)[None, :, None, None]
        hists = np.exp(-(((bins - 6 * yields[:, None, None, None]) / 3) ** 2)) + np.zeros((n, 32, 32, 9))
        members[f"soybeans/usa/{part}_hists.npz"] = npz_bytes(data=hists / hists.sum(axis=1, keepdims=True))
        members[f"soybeans/usa/{part}_yields.npz"] = npz_bytes(data=yields)
    write_yield(folder, members)


def write_patches(folder, n=20):
    """Cropland that is bright in the near infrared."""
    for part, count in (("train", n), ("val", 1), ("test", 3)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            patch, mask = cropland_patch(number, crop_rows=10 + 3 * number)
            patch[: 10 + 3 * number, :, 4] += 0.5
            if number % 2:  # the labelled pixel must be of either class
                mask = np.roll(mask, 40, axis=0)
            np.save(folder / part / f"patch{number}.npy", patch)
            np.save(folder / part / f"mask_patch{number}.npy", mask)


def write_smoke(folder, n=120):
    """Kilns that shine in the short-wave infrared."""
    folder.mkdir(parents=True, exist_ok=True)
    label = np.arange(n) % 2
    rows = [
        [k, (0, 0, 0, 0, 0, 0, 1, 1, 2, 2)[i % 10], 0, i, *_bounds(i), i, 0, 0] for i, k in enumerate(label)
    ]
    table = pd.DataFrame(rows, columns=KILN_COLUMNS)
    images = kiln_images(0, n)
    images[:, 8, 20:40, 20:40] += 40 * label[:, None, None]
    write_hdf5(
        folder / "examples_0.hdf5",
        images=images,
        labels=label[:, None].astype(np.int64),
        bounds=table[KILN_COLUMNS[4:8]].to_numpy(float),
        indices=table[KILN_COLUMNS[8:]].to_numpy(np.int64),
    )
    table.to_csv(folder / "list_eval_partition.csv", index=False)


def _bounds(i):
    return [89 + 0.1 * i, 23.0, 89.006 + 0.1 * i, 23.006]


def write_regions(folder, n=6):
    """Regions whose classes differ in the phase of their seasons."""
    folder.mkdir(parents=True)
    when = np.linspace(0, 2 * np.pi, 46)
    for box in range(n):
        rng = np.random.default_rng(box)
        y = np.repeat([1, 4, 12], 12)
        season = np.sin(when + np.array([0, 2, 4])[np.repeat([0, 1, 2], 12), None])
        x = 0.3 + 0.1 * season[:, None] + rng.normal(0, 0.1, (36, 8, 46))
        np.savez_compressed(folder / f"box_{box}.npz", x=x.astype("f4"), y=y, lat=np.full(36, 10.0 * box),
                            lon=np.full(36, 20.0 * box))  # fmt: skip
    rows = [[box, ("train", "val", "test")[box % 3]] for box in range(n)]
    pd.DataFrame(rows, columns=["box", "split"]).to_csv(folder / "splits.csv", index=False)


WORLDS = {
    "dhs": write_survey,
    "kenya": write_crops,
    "cropyield": write_harvests,
    "cropland": write_patches,
    "brickkiln": write_smoke,
    "ood": write_regions,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sources that can be learned, ingested. Do not change it."""
    folder = tmp_path_factory.mktemp("learnable")
    for source, write in WORLDS.items():
        write(folder / "raw" / source)
        ingest(source, folder / "raw" / source, folder / "ingested")
    return folder / "ingested"


def parts(task, root, entry):
    train = open_task(task, root, split="train", **entry.options, **entry.train_options)
    test = open_task(task, root, split="test", **entry.options)
    return train, test, None if "kenya" in task else open_task(task, root, split="val", **entry.options)


@pytest.mark.parametrize(
    ("task", "name", "metric", "margin", "epochs"),
    [
        ("sdg1-asset-dhs", "knn_lights", "r2", 0.8, None),
        ("sdg1-asset-dhs", "ridge_histograms", "r2", 0.3, None),
        ("sdg2-cropyield-usa", "forest", "r2", 0.8, None),
        ("sdg2-cropyield-usa", "temporal_cnn", "r2", 0.7, 20),
        ("sdg2-croptype-kenya", "forest", "macro_f1", 0.5, None),
        ("sdg2-croptype-kenya", "temporal_cnn", "macro_f1", 0.5, 20),
        ("sdg13-brickkilns-bd", "boosting", "accuracy", 0.4, None),
        ("sdg2-cropland-weak", "unet_pixel", "macro_f1", 0.05, 5),
        ("sdg2-cropland-weak", "unet_dense", "macro_f1", 0.4, 2),
        ("sdg15-landcover-ood", "prototypes", "cohen_kappa", 0.8, 2),
        ("sdg15-landcover-ood", "nearest_mean", "cohen_kappa", 0.8, None),
    ],
)
def test_a_baseline_learns_what_can_be_learned(root, task, name, metric, margin, epochs):
    entry = find_baseline(task, name)
    train, test, val = parts(task, root, entry)
    # Small batches make enough steps of few patches that any seed learns, and so any CPU's rounding.
    small = {"unet_pixel": 4, "unet_dense": 2}
    baseline = replace(entry.baseline, batch_size=small[name]) if name in small else entry.baseline
    learned = baseline.fit_predict(train, test, val, seed=1, epochs=epochs)
    ignorant = Constant().fit_predict(train, test)
    found, chance = (
        score(task, test, p.values, scores=p.scores, metrics=[metric], n_draws=1)[0].estimate
        for p in (learned, ignorant)
    )
    assert found > chance + margin


@pytest.mark.parametrize("name", ["forest", "temporal_cnn"])
def test_the_seed_decides_all_that_is_random(root, name):
    entry = find_baseline("sdg2-cropyield-usa", name)
    train, test, val = parts("sdg2-cropyield-usa", root, entry)
    first, again, other = (
        entry.baseline.fit_predict(train, test, val, seed=seed, epochs=2) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)


def test_mean_lights_are_told_apart_by_sensor(root):
    dataset = open_task("sdg1-asset-dhs", root, split="test")
    lights, sensors = mean_lights(dataset)
    assert set(sensors) == {"D", "V"}
    years = dataset.samples["year"].to_numpy()
    np.testing.assert_array_equal(sensors == "D", years <= 2011)
    wealth = np.where(years == 2014, np.log(lights), 3 - lights / 20)
    np.testing.assert_allclose(wealth, dataset.labels, atol=0.02)


def test_no_label_of_the_test_part_is_looked_at(root):
    entry = find_baseline("sdg1-asset-dhs", "knn_lights")
    train, test, val = parts("sdg1-asset-dhs", root, entry)
    before = entry.baseline.fit_predict(train, test, val)
    test.samples["label"] = 1e6
    after = entry.baseline.fit_predict(train, test, val)
    np.testing.assert_array_equal(after.values, before.values)


def test_gaps_are_filled_along_a_line_and_ends_by_the_nearest():
    nan = np.nan
    series = np.array([[nan, 1, nan, nan, 4, nan], [nan] * 6, [nan, nan, 7, nan, nan, nan]])
    np.testing.assert_allclose(fill_gaps(series), [[1, 1, 2, 3, 4, 4], [0] * 6, [7] * 6])


@given(npst.arrays(np.float64, (3, 9), elements=st.floats(-100, 100) | st.just(np.nan)))
def test_filling_keeps_what_was_seen_and_invents_no_extremes(series):
    filled = fill_gaps(series)
    seen = np.isfinite(series)
    np.testing.assert_allclose(filled[seen], series[seen].astype(np.float32))
    assert np.isfinite(filled).all()
    for row, values in zip(filled, series, strict=True):
        known = values[np.isfinite(values)]
        if known.size:
            assert known.min() - 1e-4 <= row.min()
            assert row.max() <= known.max() + 1e-4


def test_a_composite_is_the_mean_of_each_step():
    values = np.array([[1.0, 3.0, np.nan, 10.0]])
    np.testing.assert_allclose(composite(values, np.array([0.1, 0.2, 0.5, 0.99]), 2), [[2, 10]])
    np.testing.assert_allclose(
        composite(values, np.array([0.0, 0.1, 0.5, 1.0]), 4), [[2, 2 + 8 / 3, 2 + 16 / 3, 10]]
    )
