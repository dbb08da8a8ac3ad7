import json

import pytest
import torch
from safetensors.torch import save_file

from sustain.config import TrainParams
from sustain.errors import ModelError
from sustain.models.backbones.by_name import build_backbone
from sustain.models.backbones.weights import load_pretrained, widen
from sustain.models.training.model import train

BANDS = ("BLUE", "GREEN", "RED", "NIR")


def test_widening_by_hand():
    filters = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)  # red, green, blue
    wide = widen(filters, ("RED", "GREEN", "BLUE"), BANDS, 6)
    # Blue, green, red, the mean, then mask and year at 0; a constant image gives the same as before: 9 * 3 / 4.
    torch.testing.assert_close(wide[0, :, 0, 0], torch.tensor([6.0, 2.0, 1.0, 3.0, 0, 0]) * 3 / 4)
    assert wide.sum() == filters.sum()


def three_bands(tmp_path, suffix=".safetensors"):
    torch.manual_seed(1)
    state = build_backbone("resnet18", 3).state_dict()
    path = tmp_path / f"rgb{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    return path, state


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_three_bands_start_a_network_of_more(tmp_path, suffix):
    path, state = three_bands(tmp_path, suffix)
    network = build_backbone("resnet18", 5, 2)
    head = network.fc.weight.clone()
    load_pretrained(network, "resnet18", str(path), BANDS, 5)
    torch.testing.assert_close(network.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])
    torch.testing.assert_close(network.conv1.weight[:, 0], state["conv1.weight"][:, 2] * 3 / 4)
    assert (network.conv1.weight[:, 4] == 0).all()
    torch.testing.assert_close(network.fc.weight, head)


def test_a_model_starts_from_another_s_weights(packed_tiles, trained, tmp_path):
    # A learning rate of next to nothing leaves what was loaded.
    params = TrainParams(
        epochs=1, learning_rate=1e-12, weight_decay=0, threads=1, weights=str(trained / "weights.safetensors")
    )
    train(packed_tiles, tmp_path / "model", params, seed=9)
    from safetensors.torch import load_file

    old, new = (load_file(folder / "weights.safetensors") for folder in (trained, tmp_path / "model"))
    name = "backbones.0.layer2.0.conv1.weight"
    torch.testing.assert_close(new[name], old[name], atol=1e-6, rtol=0)
    page = json.loads((tmp_path / "model" / "model.json").read_text())
    assert page["params"]["weights"] == "weights.safetensors"  # it is published: no folders of ours


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("resnet18", "nowhere/w.safetensors", "no such file"),
        ("resnet18", "LANDSAT_9", "expected null, a path .*imagenet, or one of .*LANDSAT_ETM_SR_MOCO"),
        ("resnet_narrow", "imagenet", "there are none for the backbone 'resnet_narrow'"),
        ("resnet_narrow", "LANDSAT_ETM_SR_MOCO", "expected null, a path ending in .safetensors or .pth"),
    ],
)
def test_unknown_weights_are_answered_with_what_there_is(backbone, weights, message):
    with pytest.raises(ModelError, match=message):
        load_pretrained(build_backbone(backbone, 5), backbone, weights, BANDS, 5)


def test_weights_of_another_backbone_are_refused(tmp_path):
    path, _ = three_bands(tmp_path)
    with pytest.raises(
        ModelError, match=r"do not fit the backbone 'resnet50'.*missing or of another shape, such as"
    ):
        load_pretrained(build_backbone("resnet50", 5), "resnet50", str(path), BANDS, 5)


def test_a_pickle_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w').close()",))

    torch.save({"fc.weight": Hostile()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="not a state dict of tensors alone"):
        load_pretrained(build_backbone("resnet18", 5), "resnet18", str(tmp_path / "w.pth"), BANDS, 5)
    assert not (tmp_path / "owned").exists()


def unreachable(*_, **__):
    raise OSError("Name or service not known")


@pytest.mark.parametrize("weights", ["LANDSAT_ETM_SR_MOCO", "imagenet"])
def test_a_download_that_fails_is_one_message(monkeypatch, weights):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("timm.create_model", unreachable) if weights == "imagenet" else None
    network = torch.nn.Sequential(torch.nn.Conv2d(5, 4, 3))
    with pytest.raises(ModelError, match=f"weights {weights}: could not be downloaded .* give their path"):
        load_pretrained(network, "resnet18", weights, BANDS, 5)


def test_published_weights_are_matched_band_by_band(monkeypatch):
    from torchgeo.models import ResNet18_Weights

    torch.manual_seed(1)
    state = build_backbone("resnet18", 6).state_dict()
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    monkeypatch.setattr(
        type(ResNet18_Weights.LANDSAT_ETM_SR_MOCO), "get_state_dict", lambda *_, **__: dict(state)
    )
    network = build_backbone("resnet18", 5)
    load_pretrained(network, "resnet18", "LANDSAT_ETM_SR_MOCO", BANDS, 5)
    expected = state["conv1.weight"][:, [0, 1, 2, 3]] * 6 / 4
    torch.testing.assert_close(network.conv1.weight[:, :4], expected)
