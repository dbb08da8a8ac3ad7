import numpy as np
import pytest
import torch

from sustain.config import TrainParams
from sustain.models.losses import beta_gaussian, gaussian, make_loss, quintile_edges, ratledge


def loss(name, **more):
    return make_loss(TrainParams(loss=name, **more), torch.arange(10.0))


def test_squared_and_huber_by_hand():
    output, labels = torch.tensor([[0.0], [3.0]]), torch.tensor([0.5, 0.0])
    assert loss("mse")(output, labels).item() == pytest.approx((0.25 + 9) / 2)
    assert loss("huber")(output, labels).item() == pytest.approx((0.125 + 2.5) / 2)


def test_ratledge_by_hand():
    labels = torch.arange(10.0)
    edges = quintile_edges(labels)
    torch.testing.assert_close(edges, torch.tensor([1.8, 3.6, 5.4, 7.2]))
    output = labels.clone()
    output[:2] += 1  # the lowest quintile is biased by 1,
    output[8] += 2  # and in the highest errors of +2 and -2 cancel.
    output[9] -= 2
    assert ratledge(output[:, None], labels, edges, 3.0).item() == pytest.approx((1 + 1 + 4 + 4) / 10 + 3.0)
    assert loss("ratledge", bias_weight=3.0)(output[:, None], labels).item() == pytest.approx(4.0)
    assert loss("ratledge", bias_weight=0.0)(output[:, None], labels).item() == pytest.approx(1.0)


def test_a_quintile_without_a_site_in_the_batch_has_no_bias():
    labels = torch.tensor([0.0, 0.0])
    assert ratledge(torch.ones(2, 1), labels, torch.tensor([1.0, 2, 3, 4]), 2.0).item() == pytest.approx(3.0)


def test_the_gaussian_is_the_log_likelihood():
    rng = np.random.default_rng(0)
    mean, log_variance, labels = rng.normal(size=(3, 20))
    normal = torch.distributions.Normal(torch.tensor(mean), torch.tensor(np.exp(log_variance / 2)))
    expected = -normal.log_prob(torch.tensor(labels)).mean() - 0.5 * np.log(2 * np.pi)
    found = gaussian(torch.tensor(np.stack([mean, log_variance], 1)), torch.tensor(labels))
    assert found.item() == pytest.approx(expected.item())


def test_beta_weights_the_gradient_of_the_mean():
    # At beta 1/2 the gradient of the mean is error / sd, where plain likelihood has error / variance.
    labels = torch.tensor([0.0])
    for function, expected in ((gaussian, 2 / 9), (beta_gaussian, 2 / 3)):
        output = torch.tensor([[2.0, np.log(9.0)]], dtype=torch.float32, requires_grad=True)
        function(output, labels).backward()
        assert output.grad[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_a_wild_variance_stays_finite():
    output = torch.tensor([[2.0, 1e6], [2.0, -1e6]], requires_grad=True)
    value = gaussian(output, torch.zeros(2))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(output.grad).all()
