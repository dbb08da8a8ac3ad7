import pytest
import torch
from torch import nn

from sustain.errors import ModelError
from sustain.models.backbone import BACKBONES, TileNetwork, build_backbone


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("channels", [1, 9])
def test_any_number_of_bands_and_one_number_out(name, channels):
    network = build_backbone(name, channels).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 1)


def test_the_narrow_one_is_small():
    assert sum(p.numel() for p in build_backbone("resnet_narrow", 9).parameters()) < 400_000


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ModelError, match="'resnet99'; expected one of resnet18, resnet_narrow"):
        build_backbone("resnet99", 9)


def network():
    return TileNetwork("resnet_narrow", torch.tensor([100.0, 2000.0]), torch.tensor([10.0, 500.0]), nodata=0)


def test_normalisation_by_hand():
    tiles = torch.tensor([[[[110, 0]], [[1000, 2500]]]], dtype=torch.uint16)  # (1, 2, 1, 2)
    expected = torch.tensor([[[[1.0, 0.0]], [[-2.0, 1.0]], [[1.0, 0.0]]]])
    torch.testing.assert_close(network().normalise(tiles), expected)


def test_large_numbers_keep_their_value():
    # A uint16 that is taken for an int16 would turn negative.
    assert network().normalise(torch.full((1, 2, 1, 1), 65535, dtype=torch.uint16))[0, 0, 0, 0] == 6543.5


def test_statistics_are_not_among_the_weights():
    assert not {"mean", "std"} & set(network().state_dict())
    assert isinstance(network().backbone, nn.Module)
