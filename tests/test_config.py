import pytest
import yaml

from sustain.config import TilesParams, load_params
from sustain.errors import ConfigError


def write(path, content):
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_committed_parameters_load_and_fill_every_stage():
    params = load_params("params.yaml")
    assert params.source == "synthetic"
    stages = set(type(params).model_fields) - {"source", "seed"}
    assert all(getattr(params, stage) is not None for stage in stages)


def test_the_profile_is_the_switch(tmp_path):
    file = write(
        tmp_path / "p.yaml", {"source": "a", "seed": 3, "profiles": {"a": {}, "b": {"train": {"epochs": 2}}}}
    )
    assert load_params(file).train is None
    assert load_params(file, source="b").train.epochs == 2


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"source": "a", "profiles": {"b": {}}}, "'a'.*profiles are b"),
        ({"source": "a", "profiles": {"a": {"train": {"epoch": 2}}}}, r"train\.epoch: no such key"),
        ({"source": "a", "profiles": {"a": {"train": {"epochs": 0}}}}, r"train\.epochs.*got 0"),
        ({"source": "a", "profiles": {"a": {"trian": {}}}}, "trian"),
        (
            {"source": "a", "profiles": {"a": {"effects": {"methods": ["none", "linear"]}}}},
            r"correction 'response' is not among methods \(none, linear\)",
        ),
        (
            {"source": "a", "profiles": {"a": {"calibrate": {"methods": ["linear"]}, "effects": {}}}},
            r"response, tweedie, which calibrate\.methods does not fit",
        ),
        ({"source": "a", "profiles": {"a": {"correct": {"method": "response"}}}}, r"correct\.method"),
        (
            {"source": "a", "profiles": {"a": {"calibrate": {"methods": ["bridge"]}}}},
            "'linear', 'tweedie' or 'response'",
        ),
        (["source"], "expected a mapping"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path, content, named):
    with pytest.raises(ConfigError, match=named):
        load_params(write(tmp_path / "p.yaml", content))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such parameter file"):
        load_params(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match=r"bad\.yaml: not valid YAML"):
        load_params(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    "shares",
    [
        {"train": 0.5, "val": 0.5},
        {"train": 0.7, "val": 0.1, "calibration": 0.1, "test": 0.2},
        {"train": 1.0, "val": 0.0, "calibration": 0.0, "test": 0.0},
    ],
)
def test_shares_must_name_all_parts_and_add_up(shares):
    with pytest.raises(ValueError, match="shares"):
        TilesParams(shares=shares)


def test_a_file_in_latin_1_is_named_with_its_line(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_bytes("source: a\nprofiles:\n  a: {}  # café\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"line 3 .*not UTF-8 \(0xe9\).*iconv"):
        load_params(file)
