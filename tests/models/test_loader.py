import numpy as np
import pytest
import torch

from sustain.data.tiles import TileStore
from sustain.models.loader import TileBatches, dihedral
from sustain.models.losses import LOSSES


@pytest.fixture(scope="module")
def store(packed_tiles):
    return TileStore.open(packed_tiles)


def batches(store, rows, batch_size, seed=None):
    return TileBatches(store, rows, np.arange(len(rows), dtype=float), batch_size, seed)


@pytest.mark.parametrize(("n", "batch_size"), [(100, 64), (65, 64), (64, 64), (5, 64), (7, 2)])
def test_every_row_once_in_batches_of_equal_size(store, n, batch_size):
    rows = np.random.default_rng(0).permutation(len(store))[:n]
    loader = batches(store, rows, batch_size, seed=1)
    read = list(loader)
    sizes = [len(labels) for _, labels in read]
    assert len(loader) == len(sizes)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat([labels for _, labels in read]).tolist()) == list(range(n))
    for tiles, labels in read:
        assert tiles.dtype == torch.uint16
        np.testing.assert_array_equal(tiles.numpy(), store.read(rows[labels.int().numpy()]))


def order(loader):
    return torch.cat([labels for _, labels in loader]).tolist()


def test_order_by_seed_and_epoch(store):
    rows = np.arange(50)
    first, same, other = (batches(store, rows, 8, seed) for seed in (1, 1, 2))
    epochs = [order(first), order(first)]
    assert epochs == [order(same), order(same)]
    assert epochs[0] != epochs[1]
    assert order(other) != epochs[0]
    assert order(batches(store, rows, 8)) == list(range(50))


def test_augmentation_is_the_square_s_eight_symmetries():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = dihedral(image.repeat(400, 1, 1, 1), torch.Generator().manual_seed(0))
    seen = {tuple(x.flatten().tolist()) for x in turned}
    quarter = [torch.rot90(image, k, (2, 3)) for k in range(4)]
    assert seen == {tuple(x.flatten().tolist()) for q in quarter for x in (q, q.flip(3))}
    assert len(seen) == 8


def test_augmentation_turns_all_channels_of_an_image_together():
    image = torch.rand(20, 1, 5, 5)
    turned = dihedral(torch.cat([image, 2 * image], dim=1), torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned[:, 1], 2 * turned[:, 0])


def test_losses_by_hand():
    prediction, label = torch.tensor([0.0, 3.0]), torch.tensor([0.5, 0.0])
    assert LOSSES["mse"](prediction, label).item() == pytest.approx((0.25 + 9) / 2)
    assert LOSSES["huber"](prediction, label).item() == pytest.approx((0.125 + 2.5) / 2)
