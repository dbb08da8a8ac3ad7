import numpy as np
import pytest
import torch

from sustain.data.tiles.packed import TileStore
from sustain.models.training.loader import BatchOrder, TileBatches, augment, crop, dihedral, tile_loader


@pytest.fixture(scope="module")
def store(packed_tiles):
    return TileStore.open(packed_tiles)


def batches(store, rows, batch_size, seed=None):
    tiles = TileBatches(store, rows, np.arange(len(rows), dtype=float), np.zeros((len(rows), 3)))
    return tile_loader(tiles, BatchOrder(len(rows), batch_size, seed))


@pytest.mark.parametrize(("n", "batch_size"), [(100, 64), (65, 64), (64, 64), (5, 64), (7, 2)])
def test_every_row_once_in_batches_of_equal_size(store, n, batch_size):
    rows = np.random.default_rng(0).permutation(len(store))[:n]
    loader = batches(store, rows, batch_size, seed=1)
    read = list(loader)
    sizes = [len(batch.labels) for batch in read]
    assert len(loader) == len(sizes)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat([batch.labels for batch in read]).tolist()) == list(range(n))
    for batch in read:
        assert batch.tiles.dtype == torch.uint16
        np.testing.assert_array_equal(batch.tiles.numpy(), store.read(rows[batch.positions.numpy()]))
        np.testing.assert_array_equal(batch.labels.numpy(), batch.positions.numpy())


def order(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return torch.cat([batch.labels for batch in loader]).tolist()


def test_order_by_seed_and_epoch(store):
    rows = np.arange(50)
    first, same, other = (batches(store, rows, 8, seed) for seed in (1, 1, 2))
    epochs = [order(first, epoch) for epoch in (0, 1)]
    assert epochs == [order(same, epoch) for epoch in (0, 1)]
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


def test_jitter_leaves_missing_values_and_the_mask_alone():
    channels = torch.ones(50, 3, 4, 4)
    channels[:, 0, 0, 0] = 0.0
    out = augment(channels, 2, 0.1, torch.Generator().manual_seed(0))
    assert (out[:, 2] == 1).all()
    assert ((out[:, 0] == 0).sum(dim=(1, 2)) == 1).all()
    shift = out[:, 1].flatten(1).mean(dim=1) - 1
    assert 0.08 < shift.std() < 0.22  # gain and shift, 0.1 each
    torch.testing.assert_close(out[:, 1].flatten(1).std(dim=1), torch.zeros(50))


@pytest.mark.parametrize(("n", "world"), [(100, 2), (101, 4), (7, 3)])
def test_devices_share_the_tiles_and_have_equally_many(n, world):
    orders = [BatchOrder(n, 8, seed=3, rank=rank, world=world) for rank in range(world)]
    shares = [np.concatenate(list(order)) for order in orders]
    assert len({len(share) for share in shares}) == 1
    assert len({len(list(order)) for order in orders}) == 1 == len({len(order) for order in orders})
    assert set(np.concatenate(shares)) == set(range(n))
    assert len(shares[0]) == -(-n // world)


def test_workers_read_the_same_batches(store):
    rows = np.arange(40)
    tiles = TileBatches(store, rows, np.arange(40.0), np.zeros((40, 3)))
    loaders = [tile_loader(tiles, BatchOrder(40, 16, seed=1), workers) for workers in (0, 1)]
    for here, there in zip(*loaders, strict=True):
        for a, b in zip(here, there, strict=True):
            assert torch.equal(a, b)


def test_a_crop_is_a_window_of_its_image_at_any_place():
    image = torch.arange(25.0).reshape(1, 1, 5, 5)
    images = torch.cat([image, 100 + image], dim=1).repeat(300, 1, 1, 1)
    parts = crop(images, 3, torch.Generator().manual_seed(0))
    windows = {
        tuple(image[0, 0, i : i + 3, j : j + 3].flatten().tolist()) for i in range(3) for j in range(3)
    }
    assert {tuple(part[0].flatten().tolist()) for part in parts} == windows
    torch.testing.assert_close(parts[:, 1], 100 + parts[:, 0])  # the same window of every channel
    torch.testing.assert_close(crop(images, 5, torch.Generator()), images)
