import numpy as np
import pytest
import torch
from torch import nn

from sustain.errors import ModelError
from sustain.models.backbones.by_name import BACKBONES, build_backbone
from sustain.models.inputs import ExtraInputs, Normal, TileInputs
from sustain.models.network import TileNetwork, combine


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("channels", [1, 9])
@pytest.mark.parametrize("outputs", [1, 2])
def test_any_number_of_bands_and_one_number_or_two_out(name, channels, outputs):
    network = build_backbone(name, channels, outputs).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, channels, 64, 64)).shape == (2, outputs)


def test_the_narrow_one_is_small():
    assert sum(p.numel() for p in build_backbone("resnet_narrow", 9).parameters()) < 400_000


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(
        ModelError,
        match="'resnet99'; expected one of convnext_tiny, resnet18, resnet50, resnet_narrow, resnet_valid",
    ):
        build_backbone("resnet99", 9)


def inputs(extras=None):
    return TileInputs(("NIR", "NIGHTLIGHTS"), np.array([100.0, 2000.0]), np.array([10.0, 500.0]), 0, extras)


def network():
    return TileNetwork("resnet_narrow", inputs())


def test_normalisation_by_hand():
    tiles = torch.tensor([[[[110, 0]], [[1000, 2500]]]], dtype=torch.uint16)  # (1, 2, 1, 2)
    expected = torch.tensor([[[[1.0, 0.0]], [[-2.0, 1.0]], [[1.0, 0.0]]]])
    torch.testing.assert_close(network().normalise(tiles), expected)


def test_large_numbers_keep_their_value():
    # A uint16 that is taken for an int16 would turn negative.
    assert network().normalise(torch.full((1, 2, 1, 1), 65535, dtype=torch.uint16))[0, 0, 0, 0] == 6543.5


def test_statistics_are_not_among_the_weights():
    assert not [name for name in network().state_dict() if "mean" in name.split(".")[:2]]
    assert isinstance(network().backbones[0], nn.Module)


SITES = torch.tensor([[2010.0, 0.0, 90.0], [2014.0, 90.0, 0.0]])


def test_the_lights_of_two_sensors_are_two_channels_by_year():
    lights = {"dmsp": Normal(mean=10, std=5), "viirs": Normal(mean=1000, std=100)}
    tiles = torch.tensor([[[[110]], [[20]]], [[[90]], [[1200]]]], dtype=torch.uint16)
    channels = inputs(ExtraInputs(lights=lights))(tiles, SITES)
    # NIR, DMSP, VIIRS, mask; the sensor that did not fly is average ground.
    torch.testing.assert_close(channels[:, :, 0, 0], torch.tensor([[1.0, 2, 0, 1], [-1, 0, 2, 1]]))


def test_year_and_place_are_planes_after_the_mask():
    extras = ExtraInputs(year=Normal(mean=2012, std=2), location=True)
    channels = inputs(extras)(torch.ones(2, 2, 3, 3, dtype=torch.uint16), SITES)
    assert channels.shape == (2, inputs(extras).n_channels, 3, 3)
    expected = torch.tensor([[-1.0, 0, 1, 0], [1, 0, 0, 1]])  # the equator at 90 E, and the pole
    torch.testing.assert_close(channels[:, 3:, 2, 1], expected, atol=1e-6, rtol=0)


def test_extras_without_sites_are_asked_for():
    with pytest.raises(ModelError, match="looks at year"):
        inputs(ExtraInputs(year=Normal(mean=2012, std=2)))(torch.ones(2, 2, 3, 3, dtype=torch.uint16))


def test_members_and_views_combine_as_a_mixture():
    outputs = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]])  # means 1 and 3, variances 1
    torch.testing.assert_close(combine(outputs), torch.tensor([[2.0, np.log(2.0)]]).float())
    torch.testing.assert_close(combine(outputs[..., :1]), torch.tensor([[2.0]]))
    torch.testing.assert_close(combine(outputs[:1]), outputs[0])


@pytest.mark.parametrize("views", [2, 4, 8])
def test_a_prediction_in_all_views_does_not_depend_on_the_side_that_is_up(views):
    torch.manual_seed(0)
    net = TileNetwork("resnet_narrow", inputs(), views=views).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        turned = net.predict(torch.rot90(x, 2, (2, 3)))
        torch.testing.assert_close(net.predict(x), turned, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(net(x), net(torch.rot90(x, 2, (2, 3))), atol=1e-4)
        if views == 8:
            torch.testing.assert_close(net.predict(x), net.predict(x.flip(2)), atol=1e-5, rtol=1e-5)


def valid():
    torch.manual_seed(0)
    net = TileNetwork("resnet_valid", inputs(), members=2).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after some training
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return net


def test_the_valid_network_s_receptive_field_is_what_it_says():
    net = valid()
    image = torch.randn(1, 3, 100, 100, requires_grad=True)
    cells = net.cells(image)
    side = (100 - net.receptive_field) // net.stride + 1
    assert cells.shape == (2, 1, 1, side, side)
    (gradient,) = torch.autograd.grad(cells[:, 0, 0, 2, 3].sum(), image)
    rows = gradient[0].abs().sum(dim=(0, 2)).nonzero()[:, 0]
    cols = gradient[0].abs().sum(dim=(0, 1)).nonzero()[:, 0]
    first = (2 * net.stride, 3 * net.stride)
    assert (rows.min(), cols.min()) >= first
    assert (rows.max(), cols.max()) < (first[0] + net.receptive_field, first[1] + net.receptive_field)
    assert rows.max() - rows.min() > net.receptive_field - 8


def test_the_mean_over_a_scene_s_cells_is_the_tile_s_prediction():
    net = valid()
    scene, tile = torch.randn(1, 3, 120, 136), 64
    side = (tile - net.receptive_field) // net.stride + 1
    with torch.inference_mode():
        cells = net.cells(scene)
        for row, col in ((0, 0), (2, 5), (7, 9)):
            cut = scene[:, :, row * 8 : row * 8 + tile, col * 8 : col * 8 + tile]
            mean = cells[:, 0, 0, row : row + side, col : col + side].mean()
            torch.testing.assert_close(mean, net(cut)[0, 0], atol=1e-5, rtol=1e-5)


def test_cells_are_refused_where_they_would_not_be_the_tile_s():
    with pytest.raises(ModelError, match="only resnet_valid"):
        network().cells(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ModelError, match="views 1 and no stack"):
        TileNetwork("resnet_valid", inputs(), views=4).cells(torch.zeros(1, 3, 64, 64))


def test_a_tile_smaller_than_the_field_is_refused():
    with pytest.raises(ModelError, match="sees 44 pixels, but a tile has 32"):
        valid().require_tile(32)
    valid().require_tile(44)
