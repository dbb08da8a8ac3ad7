"""CR2 and Hotelling's T squared: against statsmodels, the package's own CR2, and the definition by brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from sustain.causal import estimate_effect
from sustain.stats.hotelling import joint_test
from sustain.stats.least_squares import Regressors


def design(seed=0, n=60):
    rng = np.random.default_rng(seed)
    columns = np.column_stack([rng.normal(size=n), rng.exponential(size=n), rng.integers(0, 2, n)])
    return columns, Regressors.of(columns, list("abc")), rng.normal(size=n), rng.integers(0, 12, n)


class TestJointTest:
    which = np.eye(4)[[1, 3]]

    def test_unclustered_is_hc2_of_statsmodels(self):
        columns, found, y, _ = design()
        fitted = sm.OLS(y, sm.add_constant(columns)).fit(cov_type="HC2")
        joint = joint_test(found, y, self.which)
        np.testing.assert_allclose(joint.estimate, fitted.params[[1, 3]])
        np.testing.assert_allclose(joint.cov, fitted.cov_params()[np.ix_([1, 3], [1, 3])])

    def test_one_coefficient_is_bell_and_mccaffrey(self):
        columns, found, y, group = design()
        joint = joint_test(found, y, np.eye(4)[[3]], group)
        data = pd.DataFrame(columns, columns=list("abt")).assign(y=y, group=group)
        peer = estimate_effect(data, "y ~ t + a + b", assumption="outcome", vcov={"CR2": "group"})
        assert joint.estimate[0] == pytest.approx(peer.estimate)
        assert joint.cov[0, 0] ** 0.5 == pytest.approx(peer.std_error)
        assert joint.df == pytest.approx(peer.df)

    @pytest.mark.parametrize("clustered", [True, False])
    def test_degrees_of_freedom_by_brute_force(self, clustered):
        """Variances of the entries of V from the n x n matrices of the definition."""
        columns, found, y, group = design()
        group = group if clustered else np.arange(y.size)
        x = sm.add_constant(columns)
        bread = np.linalg.inv(x.T @ x)
        left = np.eye(y.size) - x @ bread @ x.T
        half = np.linalg.cholesky(self.which @ bread @ self.which.T)
        rows = []
        for g in np.unique(group):
            own = group == g
            values, vectors = np.linalg.eigh(left[np.ix_(own, own)])
            root = (vectors / np.sqrt(values)) @ vectors.T
            rows.append(np.linalg.solve(half, self.which @ bread @ x[own].T @ root @ left[own]))
        scores = np.array(rows)  # (G, q, n)
        cov = np.einsum("gsi,hti->gsht", scores, scores)
        np.testing.assert_allclose(np.einsum("gsgt->st", cov), np.eye(2), atol=1e-9)  # CR2 is unbiased
        total = sum(
            (cov[:, s, :, s] * cov[:, t, :, t]).sum() + (cov[:, s, :, t] * cov[:, t, :, s]).sum()
            for s in range(2)
            for t in range(2)
        )
        assert joint_test(found, y, self.which, group).df == pytest.approx(6 / total - 1)

    def test_a_cluster_that_decides_alone(self):
        columns, found, y, _ = design()
        joint = joint_test(found, y, self.which, (columns[:, 2] == 1).astype(np.intp))
        assert np.isnan(joint.p_value)
        assert joint.df == 0

    def test_weights_are_hc2_of_statsmodels(self):
        columns, _, y, _ = design()
        weight = np.random.default_rng(1).uniform(0.2, 3, y.size)
        fitted = sm.WLS(y, sm.add_constant(columns), weights=weight).fit(cov_type="HC2")
        for factor in (1.0, 1e6):
            joint = joint_test(Regressors.of(columns, list("abc"), factor * weight), y, self.which)
            np.testing.assert_allclose(joint.estimate, fitted.params[[1, 3]])
            np.testing.assert_allclose(joint.cov, fitted.cov_params()[np.ix_([1, 3], [1, 3])])
