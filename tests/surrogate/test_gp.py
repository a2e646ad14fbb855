"""The Gaussian process against the dense textbook formulas, and what must hold of any posterior."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ssdtune.surrogate.gp import Field, GaussianProcess, Kernel, matern52

LENGTHS = np.array([[0.5, 0.8], [0.7, 0.4]])


def random_field(rng, n, members=3, basis=2, outputs=2):
    return Field(
        rng.uniform(-2, 0, (n, 2)),
        rng.normal(size=(members, outputs, n)),
        0.3 * rng.normal(size=(basis, outputs, n)),
        rng.uniform(0.1, 0.5, (outputs, n)),
    )


def dense_covariance(a, b, scale, lengths=LENGTHS, rho=0.0):
    """(J n, J c), output-major: Phi^T Phi + blocks of amplitude x Matern x amplitude, mixed by rho."""
    outputs, n, c = a.amplitude.shape[0], len(a.z), len(b.z)
    mixing = [[1, 0], [rho, np.sqrt(1 - rho**2)]]
    total = np.zeros((outputs, n, outputs, c))
    for i in range(outputs):
        for j in range(outputs):
            total[i, :, j] += a.basis[:, i].T @ b.basis[:, j]
        for p in range(n):
            for q in range(c):
                r = np.sqrt(5 * (((a.z[p] - b.z[q]) / lengths[i]) ** 2).sum())
                kernel = (1 + r + r**2 / 3) * np.exp(-r)
                for j in range(outputs):
                    for k in range(outputs):
                        mixed = mixing[j][i] * mixing[k][i] * kernel
                        total[j, p, k, q] += scale**2 * a.amplitude[j, p] * b.amplitude[k, q] * mixed
    return total.reshape(outputs * n, outputs * c)


@pytest.mark.parametrize(("basis", "rho"), [(0, 0), (3, 0), (0, 0.7), (3, -0.4)])
def test_posterior_and_evidence_equal_the_dense_formulas(basis, rho):
    rng = np.random.default_rng(basis)
    data, test = (random_field(rng, n, basis=basis) for n in (7, 5))
    y, noise, scale, outputs = rng.normal(size=(2, 7)), rng.uniform(0.05, 0.2, (2, 7)), 1.7, 2
    process = GaussianProcess.fit(data, y, noise, Kernel(LENGTHS, scale, rho))
    got = process.predict(test)
    total = dense_covariance(data, data, scale, rho=rho) + np.diag(noise.ravel() ** 2 + 1e-10)
    cross = dense_covariance(data, test, scale, rho=rho)
    posterior = dense_covariance(test, test, scale, rho=rho) - cross.T @ np.linalg.solve(total, cross)
    for m in range(3):
        residual = (y - data.mean[m]).ravel()
        expected = test.mean[m] + (cross.T @ np.linalg.solve(total, residual)).reshape(outputs, 5)
        np.testing.assert_allclose(got.mean[m], expected, atol=1e-9)
        evidence = multivariate_normal(np.zeros(outputs * 7), total).logpdf(residual)
        np.testing.assert_allclose(process.log_evidence[m], evidence, atol=1e-8)
    for i in range(outputs):
        for j in range(outputs):
            block = posterior.reshape(outputs, 5, outputs, 5)[i, :, j]
            np.testing.assert_allclose(got.cov[i, j], np.diag(block), atol=1e-9)


def test_noiseless_data_are_interpolated_and_without_data_the_prior_holds():
    rng = np.random.default_rng(3)
    data = random_field(rng, 6)
    y = rng.normal(size=(2, 6))
    at_data = GaussianProcess.fit(data, y, np.full((2, 6), 1e-5), Kernel(LENGTHS)).predict(data)
    np.testing.assert_allclose(at_data.mean, np.broadcast_to(y, at_data.mean.shape), atol=1e-5)
    assert at_data.cov[0, 0].max() < 1e-8
    none = random_field(rng, 0)
    process = GaussianProcess.fit(none, np.empty((2, 0)), np.empty((2, 0)), Kernel(LENGTHS))
    prior = process.predict(data)
    np.testing.assert_allclose(prior.mean, data.mean)
    np.testing.assert_allclose(prior.cov[0, 0], data.amplitude[0] ** 2 + (data.basis[:, 0] ** 2).sum(0))
    np.testing.assert_allclose(process.log_evidence, 0)


def test_pending_settings_keep_the_mean_and_shrink_the_variance():
    rng = np.random.default_rng(4)
    data, pending = random_field(rng, 5), random_field(rng, 3)
    y, noise = rng.normal(size=(2, 5)), np.full((2, 5), 0.01)
    plain = GaussianProcess.fit(data, y, noise, Kernel(LENGTHS))
    waiting = GaussianProcess.fit(data, y, noise, Kernel(LENGTHS), pending)
    np.testing.assert_allclose(waiting.predict(pending).mean, plain.predict(pending).mean)
    np.testing.assert_allclose(waiting.log_evidence, plain.log_evidence)
    assert (waiting.predict(pending).cov[0, 0] < 0.02**2).all()
    # as if the predictions of one member had been observed
    joined = Field(*(np.concatenate(pair, axis=i and -1) for i, pair in enumerate(zip(data, pending, strict=True))))
    believed = np.concatenate([y, plain.predict(pending).mean[0]], axis=1)
    refit = GaussianProcess.fit(joined, believed, np.full((2, 8), 0.01), Kernel(LENGTHS))
    test = random_field(rng, 4)
    np.testing.assert_allclose(waiting.predict(test).mean[0], refit.predict(test).mean[0], atol=1e-9)
    np.testing.assert_allclose(waiting.predict(test).cov, refit.predict(test).cov, atol=1e-9)


def test_matern_is_one_at_home_falls_with_distance_and_is_positive_definite():
    points = np.random.default_rng(5).uniform(-3, 0, (30, 2))
    kernel = matern52(points, points, np.array([0.5, 1.0]))
    np.testing.assert_allclose(np.diag(kernel), 1)
    assert np.linalg.eigvalsh(kernel).min() > -1e-12
    line = matern52(np.zeros((1, 2)), np.linspace([0, 0], [3, 0], 50), np.ones(2))[0]
    assert (np.diff(line) < 0).all()
