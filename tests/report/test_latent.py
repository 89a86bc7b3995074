from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medgen
from medgen import Batch, Condition, ConditionSpec, ImageSpec
from medgen.interfaces import LatentModel
from medgen.report.latent import Posterior, interpolate, manifold, posterior_of, principal_plane, quantiles, traversals
from medgen.report.sections.latent import choose_pairs

SPEC = ImageSpec(channels=1, shape=(8, 8))
TINY = {"channels": [4], "blocks": 0}
SLOTS = (ConditionSpec(name="label", kind="label", names=("a", "b")), ConditionSpec(name="attributes", kind="attributes", names=("age",)))


def model_of(family: str = "vae", latent_dim: int = 2, **more: object) -> LatentModel:
    model = medgen.create(family, SPEC, SLOTS if family == "cvae" else (), latent_dim=latent_dim, **TINY, **more)
    assert isinstance(model, LatentModel)
    return model.eval()


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
def test_interpolation_ends_equal_the_reconstructions(family: str) -> None:
    model = model_of(family, 3)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    slots = Condition({"label": torch.tensor([1, 1]), "attributes": torch.tensor([[0.3], [-2.0]])}) if family == "cvae" else Condition()
    t = torch.linspace(1, 0, 5)
    walk = interpolate(model, x[0], x[1], t, condition_a=slots[:1], condition_b=slots[1:])
    ends = model.reconstruct(x, condition=slots)
    torch.testing.assert_close(walk[[0, -1]], ends, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(walk[0], walk[-1])


def test_classes_are_not_interpolated() -> None:
    model = model_of("cvae")
    slots = Condition({"label": torch.tensor([0, 1]), "attributes": torch.zeros(2, 1)})
    with pytest.raises(ValueError, match="label"):
        interpolate(model, torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), torch.zeros(2), condition_a=slots[:1], condition_b=slots[1:])


@given(st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_quantiles_cut_the_normal_into_equal_parts(n: int) -> None:
    cdf = 0.5 * (1 + torch.erf(quantiles(n).double() / math.sqrt(2)))
    torch.testing.assert_close(cdf, (torch.arange(n).double() + 0.5) / n, atol=1e-6, rtol=0)


def test_the_manifold_grows_right_in_z1_and_up_in_z2() -> None:
    model = model_of()
    grid = manifold(model, 3, Condition())
    q = quantiles(3)
    top_right, bottom_left = torch.stack([q[2], q[2]]), torch.stack([q[0], q[0]])
    with torch.no_grad():
        torch.testing.assert_close(grid[[2, 6]], model.decode(torch.stack([top_right, bottom_left])), atol=1e-6, rtol=1e-5)
        shifted = manifold(model, 3, Condition(), centre=torch.tensor([5.0, 0.0]), scale=torch.tensor([2.0, 1.0]))
        torch.testing.assert_close(shifted[4], model.decode(torch.tensor([[5.0, 0.0]]))[0], atol=1e-6, rtol=1e-5)


def test_a_traversal_moves_one_value_only() -> None:
    model = model_of("vae", 4)
    base = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x = traversals(model, torch.tensor([3, 1]), torch.tensor([-1.0, 0.0, 2.0]), Condition(), base=base, scale=torch.full((4,), 0.5))
    assert len(x) == 6
    with torch.no_grad():
        z = torch.tensor([[0.1, 0.2, 0.3, -0.1], [0.1, 1.2, 0.3, 0.4]])
        torch.testing.assert_close(x[[0, 5]], model.decode(z), atol=1e-6, rtol=1e-5)


def test_weights_are_the_kl_of_posteriors_and_the_variance_of_points() -> None:
    mean, sd = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[0.5, 1.0], [0.5, 1.0]])
    name, kl = Posterior(mean, sd).weights()
    assert "KL" in name
    torch.testing.assert_close(kl, torch.tensor([0.5 * (1 + 0.25 - 1 - math.log(0.25)), 0.0]))
    name, variance = Posterior(mean, torch.zeros(2, 2)).weights()
    assert name == "variance"
    torch.testing.assert_close(variance, torch.tensor([1.0, 0.0]))


def test_posteriors_of_autoencoders_are_points() -> None:
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not posterior_of(model_of("ae"), x, Condition()).random
    found = posterior_of(model_of("vae"), x, Condition())
    assert found.random
    assert found.mean.shape == found.sd.shape == (40, 2)


def test_the_principal_plane_is_that_of_the_svd() -> None:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 1.0, 3.0, 0.1])
    points, shares = principal_plane(x)
    centred = x - x.mean(0)
    torch.testing.assert_close(points.var(0), torch.linalg.svdvals(centred)[:2].square() / 49, rtol=1e-4, atol=1e-4)
    assert shares[0] > shares[1] > 0
    assert sum(shares) < 1
    torch.testing.assert_close(principal_plane(x + 100)[0], points, atol=1e-3, rtol=1e-3)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=0, max_size=12), st.booleans())
@settings(max_examples=50, deadline=None)
def test_pairs_agree_in_what_cannot_be_mixed(samples: list[tuple[int, bool]], conditional: bool) -> None:
    labels = torch.tensor([label for label, _ in samples], dtype=torch.int64)
    present = torch.tensor([p for _, p in samples], dtype=torch.bool)
    condition = Condition({"label": labels}, {"label": present}) if conditional else Condition()
    batch = Batch(torch.zeros(len(samples), 1, 4), condition, torch.arange(len(samples)))
    pairs = choose_pairs(batch, labels.numpy(), 4)
    used = [i for pair in pairs for i in pair]
    assert len(used) == len(set(used))
    for a, b in pairs:
        assert a != b
        if conditional:
            assert labels[a] == labels[b]
            assert present[a]
            assert present[b]
    if not conditional:
        first = pairs[0] if pairs else None
        assert (first is None) == (len(samples) < 2)
        if first and len(set(labels.tolist())) > 1:
            assert labels[first[0]] != labels[first[1]]
