"""Colours of maps: steady in lightness for every kind of colour vision; a scale ends where its values end."""

import numpy as np
import pytest

from sustain.palettes import CHANGE, ERROR, SUPPORT_KINDS, WEALTH, Scale, scale_of

# Machado, Oliveira and Fernandes (2009), full severity, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lightness(rgb, vision):
    """CIE L* of colours (n, 3), as somebody with this vision sees them."""
    part = np.asarray(rgb) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ VISION[vision].T, 0, 1)
    y = seen @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


@pytest.mark.parametrize("vision", VISION)
def test_lightness_is_steady_along_a_palette(vision):
    wealth, error = (lightness(palette.rgb(33), vision) for palette in (WEALTH, ERROR))
    assert np.all(np.diff(wealth) > 0)
    assert wealth[-1] - wealth[0] > 60
    assert np.all(np.diff(error) < 0)
    assert error[0] - error[-1] > 50
    change = lightness(CHANGE.rgb(33), vision)
    assert np.all(np.diff(change[:17]) > 0)
    assert np.all(np.diff(change[16:]) < 0)


@pytest.mark.parametrize("vision", VISION)
def test_kinds_of_cells_are_told_apart(vision):
    kinds = [[int(kind.colour[i : i + 2], 16) for i in (1, 3, 5)] for kind in SUPPORT_KINDS.values()]
    assert np.min(np.abs(np.diff(np.sort(lightness(kinds, vision))))) > 10


def test_colours_end_at_the_stops():
    assert WEALTH.colours(2) == ["#440154", "#fde725"]
    assert WEALTH.colours(len(WEALTH.stops)) == list(WEALTH.stops)
    assert ERROR.rgb().shape == (256, 3)


def test_wealth_is_viridis():
    matplotlib = pytest.importorskip("matplotlib")
    viridis = matplotlib.colormaps["viridis"](np.linspace(0, 1, 256), bytes=True)[:, :3].astype(int)
    assert np.max(np.abs(viridis[::51] - WEALTH.rgb(6))) <= 1
    assert np.max(np.abs(viridis - WEALTH.rgb())) < 16


def test_a_scale_ends_where_the_values_end():
    values = np.linspace(-1, 2, 500)
    assert scale_of(values, [np.nan, np.inf]) == Scale(-1.0, 2.0)
    assert scale_of(values[:250], values[250:]) == Scale(-1.0, 2.0)
    assert scale_of(np.linspace(0.2, 0.3, 50), from_zero=True) == Scale(0.0, 0.3)


def test_a_scale_is_not_stretched_by_one_value_and_says_so():
    scale = scale_of(np.append(np.linspace(0, 1, 999), 100.0))
    assert scale.high == pytest.approx(0.99, abs=0.01)
    assert (scale.low, scale.cut_low, scale.cut_high) == (0.0, False, True)
    assert scale.labels(2) == ("0", "≥ 0.99")


def test_values_all_alike_and_no_values_have_a_scale_or_none():
    assert scale_of([2.0, 2.0]) == Scale(1.5, 2.5)
    assert scale_of([0.0, 0.0], from_zero=True) == Scale(0.0, 1.0)
    assert scale_of([np.nan]) is None
    assert Scale(-1.25, 2.0).labels() == ("\N{MINUS SIGN}1.25", "2")
