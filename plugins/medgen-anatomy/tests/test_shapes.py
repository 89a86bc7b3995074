"""Closed forms and identities of the families of shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import medgen
from medgen.data import from_arrays
from medgen.interfaces import Batch, Condition, FollowsAttributes, Noise, Step
from medgen.registry import ConditionSpec, ImageSpec
from medgen.report import Context
from medgen.report.sections.latent import latent_space
from medgen.training import train
from medgen_anatomy.apical import apical_labels
from medgen_anatomy.ar_vae import attribute_loss
from medgen_anatomy.shape_vae import soft_dice

MAPS = ImageSpec(channels=3, shape=(8, 8), content="labels")
VECTORS = ImageSpec(channels=5, shape=(), content="features")
TARGET = ConditionSpec(name="attributes", kind="attributes", names=("area", "length", "angle"), mean=(10.0, 5.0, 0.0), sd=(2.0, 1.0, 3.0))
SMALL = {"latent_dim": 4, "channels": [4]}


# ------------------------------------------------------------------------------------------------------------- ar_vae


@pytest.mark.parametrize("delta", [0.5, 1.0, 16.0])
def test_value_of_two_samples(delta):
    """Gap 1 in the right order: (1 - tanh delta) / 2, since the diagonal counts; reversed: (1 + tanh delta) / 2."""
    z, a = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([[2.0], [9.0]], dtype=torch.float64)
    assert attribute_loss(z, a, delta).item() == pytest.approx((1 - math.tanh(delta)) / 2)
    assert attribute_loss(z, -a, delta).item() == pytest.approx((1 + math.tanh(delta)) / 2)
    assert attribute_loss(z, a, 1.0).item() == pytest.approx(0.1192, abs=5e-5)


@given(n=st.integers(1, 8), attributes=st.integers(1, 3), seed=st.integers(0, 100))
def test_attribute_loss_equals_its_double_sum(n, attributes, seed):
    draw = torch.Generator().manual_seed(seed)
    z, a = (torch.randn(n, attributes, generator=draw, dtype=torch.float64) for _ in range(2))
    gap = np.abs(np.tanh(2 * (z.numpy()[:, None] - z.numpy())) - np.sign(a.numpy()[:, None] - a.numpy()))
    assert attribute_loss(z, a, 2.0).item() == pytest.approx(gap.mean((0, 1)).sum())
    known = torch.rand(n, generator=draw) < 0.5
    wanted = attribute_loss(z[known], a[known], 2.0).item() if known.any() else 0.0
    assert attribute_loss(z, a, 2.0, known).item() == pytest.approx(wanted)


def batch_of(n=6, targets=True):
    classes = torch.randint(3, (n, 8, 8), generator=torch.Generator().manual_seed(1))
    x = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    values = Condition({"attributes": torch.randn(n, 3, generator=torch.Generator().manual_seed(2))}) if targets else Condition()
    return Batch(x, Condition(), torch.arange(n), values)


def test_the_loss_is_on_the_sampled_z():
    model = medgen.create("ar_vae", MAPS, targets=[TARGET], **SMALL, attributes=["angle", "area"], dimensions=[3, 1], gamma=0.7, delta=2.0)
    batch, step = batch_of(), Step(0, 10, Noise(5, torch.arange(6)))
    found = model.phases()[0].loss(batch, step)
    q = model.encode(batch.x)
    z = q.mean + q.stddev * step.noise.normal(4)
    wanted = attribute_loss(z[:, [3, 1]], batch.targets.values["attributes"][:, [2, 0]], 2.0)
    assert found["attributes"].item() == pytest.approx(wanted.item(), rel=1e-5)
    assert wanted.item() != pytest.approx(
        attribute_loss(q.mean[:, [3, 1]], batch.targets.values["attributes"][:, [2, 0]], 2.0).item(), rel=1e-3
    )
    total = found["reconstruction"] + 1e-4 * found["kl"] + 0.7 * found["attributes"]
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-6)
    assert isinstance(model, FollowsAttributes)
    assert model.attribute_dimensions == {"angle": 3, "area": 1}


def test_reconstruction_is_cross_entropy_and_dice():
    model = medgen.create("ar_vae", MAPS, targets=[TARGET], **SMALL, cross_entropy_weight=0.3, dice_weight=0.9)
    batch, step = batch_of(), Step(0, 10, Noise(5, torch.arange(6)))
    q = model.encode(batch.x)
    h = model.decoder(q.mean + q.stddev * step.noise.normal(4))
    cross_entropy = torch.nn.functional.cross_entropy(h, batch.x.argmax(1))
    p = h.softmax(1)
    dice = [(2 * (p[i, k] * batch.x[i, k]).sum() + 1) / (p[i, k].sum() + batch.x[i, k].sum() + 1) for i in range(6) for k in (1, 2)]
    wanted = 0.3 * cross_entropy + 0.9 * (1 - sum(dice) / 12)
    assert model.phases()[0].loss(batch, step)["reconstruction"].item() == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(soft_dice(batch.x, batch.x), torch.ones(6, 2))


def test_without_targets_it_is_the_vae_of_shapes():
    """A whole batch without attributes: the term is 0, not NaN."""
    for family, more in (("ar_vae", {}), ("constrained_vae", {"attribute": "area"})):
        model = medgen.create(family, MAPS, targets=[TARGET], **SMALL, **more)
        found = model.phases()[0].loss(batch_of(targets=False), Step(0, 10, Noise(5, torch.arange(6))))
        assert found["loss"].item() == pytest.approx((found["reconstruction"] + 1e-4 * found["kl"]).item())


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        ("ar_vae", {"attributes": ["volume"]}, "`attributes` must name attributes of the data.*got 'volume'"),
        ("ar_vae", {"dimensions": [0, 1]}, "one latent value for each"),
        ("ar_vae", {"dimensions": [0, 1, 1]}, "must be different and below `latent_dim` = 4"),
        ("ar_vae", {"latent_dim": 2}, "below `latent_dim` = 2.*Raise `latent_dim`"),
        ("ar_vae", {"attributes": ["area", "area"]}, "one latent value for each of the different attributes"),
        ("constrained_vae", {}, "`attribute` must name the one attribute.*'length'"),
        ("constrained_vae", {"attribute": "lenght"}, "did you mean 'length'"),
    ],
)
def test_what_does_not_fit_is_refused(family, config, message):
    with pytest.raises(medgen.MedgenError, match=message):
        medgen.create(family, MAPS, targets=[TARGET], **{**SMALL, **config})


def test_no_verb_takes_a_target():
    model = medgen.create("ar_vae", MAPS, targets=[TARGET], **SMALL)
    with pytest.raises(medgen.MedgenError, match=r"takes the conditions none; got .'attributes'"):
        model.sample(2, condition=Condition({"attributes": torch.zeros(2, 3)}))


def test_training_needs_the_attributes(tmp_path):
    with pytest.raises(medgen.MedgenError, match=r"needs the training target attributes; the data has none.*--attributes"):
        train("ar_vae", from_arrays(np.zeros((30, 8, 8), np.uint8), content="intensity"), tmp_path / "run", show=False)


# ---------------------------------------------------------------------------------------------------- constrained_vae


def test_regression_is_on_the_mean_in_units_of_the_data():
    model = medgen.create("constrained_vae", MAPS, targets=[TARGET], **SMALL, attribute="length", linear_constraint_weight=2.5)
    batch, step = batch_of(), Step(0, 10, Noise(5, torch.arange(6)))
    found = model.phases()[0].loss(batch, step)
    mean = model.encode(batch.x).mean
    r = mean @ model.regressor.weight[0] + model.regressor.bias
    assert found["regression"].item() == pytest.approx((r - batch.targets.values["attributes"][:, 1]).square().mean().item(), rel=1e-5)
    assert found["loss"].item() == pytest.approx(
        (found["reconstruction"] + 1e-4 * found["kl"] + 2.5 * found["regression"]).item(), rel=1e-6
    )
    torch.testing.assert_close(model.predict(mean.detach()), (5.0 + 1.0 * r).detach())
    with pytest.raises(medgen.MedgenError, match=r"`z` must have shape \[B, 4\]"):
        model.predict(torch.zeros(2, 3))


@pytest.mark.slow
def test_the_attribute_is_linear_in_the_latent_and_comes_back_from_file(tmp_path):
    data = apical_labels(n=300, size=16)
    options = {"steps": 150, "lr": 3e-3, "batch_size": 32, "show": False}
    run = train("constrained_vae", data, tmp_path / "run", model={"latent_dim": 6, "channels": [], "attribute": "lv_area"}, **options)
    rows = data.splits["val"]
    truth = torch.from_numpy(data.samples.attributes["lv_area"][rows]).float()
    again = medgen.load(tmp_path / "run")
    assert again.targets == run.model.targets
    assert again.targets[0].names[0] == "lv_area"
    found = again.predict(again.encode(data.fetch(rows).x).mean.detach())
    assert 1 - (found - truth).square().mean() / truth.var(correction=0) > 0.9


@pytest.mark.slow
def test_latent_values_follow_their_attributes(tmp_path):
    data = apical_labels(n=300, size=16)
    config = {
        "latent_dim": 6,
        "channels": [],
        "attributes": ["lv_area", "epi_center_x"],
        "dimensions": [4, 2],
        "delta": 1.0,
        "gamma": 1.0,
    }
    run = train("ar_vae", data, tmp_path / "run", model=config, steps=150, lr=3e-3, batch_size=32, show=False)
    scores = {s.name: s for s in medgen.evaluate(run, bootstrap=0)}
    assert scores["attribute_correlation"].details.keys() == {"lv_area", "epi_center_x"}
    assert min(scores["attribute_correlation"].details.values()) > 0.85
    rows = data.splits["val"]
    z = run.model.encode(data.fetch(rows).x).mean.detach()
    for name, place in run.model.attribute_dimensions.items():
        assert np.corrcoef(z[:, place], data.samples.attributes[name][rows])[0, 1] > 0.8  # it grows with it
    section = latent_space(Context(run))
    assert section is not None
    assert any("follow the attributes" in getattr(block, "caption", "") for block in section.blocks)


# ----------------------------------------------------------------------------------------------------------------- pca


def fitted(family, x, q, spec, parts=3):
    model = medgen.create(family, spec, components=q).double()
    model.prepare(lambda: [Batch(part) for part in x.chunk(parts)])
    return model.eval()


def points(n=200, d=5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(n, 2, generator=draw) @ torch.randn(2, d, generator=draw) + 0.2 * torch.randn(n, d, generator=draw) + 3).double()


@pytest.mark.parametrize("q", [1, 2, 5])
def test_density_is_that_of_tipping_and_bishop(q):
    """C = W W' + s^2 I with W = U (L - s^2)^(1/2), from the eigenvectors of the covariance; q = D is the full Gaussian."""
    x = points()
    model = fitted("pca_shape", x, q, VECTORS)
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[q:].mean() if q < 5 else 0.0
    w = vectors[:, :q] * np.sqrt(values[:q] - noise)
    exact = torch.distributions.MultivariateNormal(x.mean(0), torch.from_numpy(w @ w.T + noise * np.eye(5)))
    torch.testing.assert_close(model.log_prob(x), exact.log_prob(x))
    torch.testing.assert_close(model.explained_variance, torch.from_numpy(values[:q].copy() / values.sum()))


def test_it_is_the_maximum_of_the_likelihood():
    x = points()
    model = fitted("pca_shape", x, 2, VECTORS)
    best = model.log_prob(x).mean()
    for factor in (0.97, 1.03):
        for buffer in (model.variances, model.noise_variance):
            kept = buffer.clone()
            buffer.mul_(factor)
            assert model.log_prob(x).mean() < best
            buffer.copy_(kept)


def test_scores_are_projections_and_modes_are_orthogonal():
    x = points()
    model = fitted("pca_shape", x, 2, VECTORS)
    b = model.encode(x).mean
    torch.testing.assert_close(model.components @ model.components.T, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(b.var(0, correction=0), model.variances)
    assert torch.corrcoef(b.T)[0, 1].abs() < 1e-9
    residual = x - model.reconstruct(x)
    assert (residual @ model.components.T).abs().max() < 1e-9
    torch.testing.assert_close(residual.square().sum(1).mean(), 3 * model.noise_variance)


def test_many_values_take_the_other_way(monkeypatch):
    """The Gram matrix of the samples gives what the covariance of the values gives."""
    x = points(40, 12)
    spec = ImageSpec(channels=1, shape=(3, 4))
    x = x.view(40, 1, 3, 4)
    one = fitted("pca_shape", x, 4, spec)
    monkeypatch.setattr("medgen_anatomy.pca._WIDE", 1)
    other = fitted("pca_shape", x, 4, spec)
    for name in ("mean", "components", "variances", "noise_variance", "total_variance"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-8, rtol=1e-6)


def test_samples_have_the_covariance_of_the_model():
    model = fitted("pca_shape", points(), 2, VECTORS)
    x = model.sample(40_000, noise=1)
    p = model.components
    wanted = p.T @ torch.diag(model.variances) @ p + model.noise_variance * (torch.eye(5, dtype=torch.float64) - p.T @ p)
    torch.testing.assert_close(torch.cov(x.T), wanted, atol=0.03 * wanted.abs().max().item(), rtol=0)


def test_linear_data_keeps_a_finite_density():
    x = points()[:, :1] * torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    model = fitted("pca_shape", x, 3, VECTORS)
    assert model.log_prob(x).isfinite().all()
    torch.testing.assert_close(model.reconstruct(x), x)
    constant = fitted("pca_shape", torch.ones(9, 5).double(), 2, VECTORS)
    assert constant.log_prob(torch.ones(1, 5).double()).isfinite().all()


def test_components_must_fit():
    with pytest.raises(medgen.MedgenError, match="at most the 5 values of a sample; got 6"):
        medgen.create("pca_shape", VECTORS, components=6)
    with pytest.raises(medgen.MedgenError, match="fewer than the 4 training samples; got 4"):
        fitted("pca_shape", points(4), 4, VECTORS)


def test_masks_come_back_and_decode_to_shares(tmp_path):
    data = apical_labels(n=60, size=16)
    run = train("pca_masks", data, tmp_path / "run", model={"components": 30}, show=False)
    x = data.fetch(data.splits["train"]).x
    found = run.model.reconstruct(x)
    torch.testing.assert_close(found.sum(1), torch.ones(len(x), 16, 16))
    assert (found.argmax(1) == x.argmax(1)).float().mean() > 0.99
    coarse = train("pca_masks", data, tmp_path / "coarse", model={"components": 2}, show=False).model
    assert (coarse.reconstruct(x) - x).square().mean() > 4 * (found - x).square().mean()
    assert 0.3 < coarse.explained_variance.sum() < run.model.explained_variance.sum() < 1
