"""The shipped extractors: fixed to the integer, for any input, and growing with every distortion that matters."""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medgen.errors import DataError
from medgen.evaluation.distribution import frechet_distance, kid
from medgen.evaluation.features import Extractor, Identity, RandomConv, extract, resized
from medgen.evaluation.prdc import coverage, precision, recall
from medgen.ops import philox_normal, philox_uniform


@cache
def blobs(n, shape, seed=0, modes=4):
    """Images in [0, 1] of soft balls: each sample has one of `modes` radii, a random centre, and fine texture."""
    u = philox_uniform(seed, torch.arange(n), (len(shape) + 1,))
    grids = torch.meshgrid(*[torch.linspace(-1, 1, s) for s in shape], indexing="ij")
    squares = sum((g[None] - 0.6 * (u[:, a].view(-1, *[1] * len(shape)) - 0.5)) ** 2 for a, g in enumerate(grids))
    radius = 0.25 + 0.15 * (u[:, -1] * modes).floor()
    ball = torch.sigmoid(12 * (radius.view(-1, *[1] * len(shape)) - squares.sqrt()))
    texture = 0.05 * philox_normal(seed + 500, torch.arange(n), shape)
    return (0.2 + 0.6 * ball + texture).clamp(0, 1)[:, None]


def blurred(x, sd):
    if sd == 0:
        return x
    taps = torch.exp(-0.5 * (torch.arange(-6, 7.0) / sd) ** 2)
    for axis in range(2, x.dim()):
        padding = [0] * (2 * (x.dim() - 2))
        padding[2 * (x.dim() - 1 - axis)] = padding[2 * (x.dim() - 1 - axis) + 1] = 6
        padded = F.pad(x, padding, mode="replicate")
        x = sum(w * padded.narrow(axis, t, x.shape[axis]) for t, w in enumerate(taps / taps.sum()))
    return x


def test_weights_are_these_integers():
    """A change of any of them is another extractor, and must get another name."""
    text = repr([[w.tolist() for w in RandomConv(c, d).filters] for c, d in ((1, 1), (1, 2), (3, 2), (1, 3))])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "1b82f3c0eebcad4b"


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_filters_are_orthogonal_where_they_can_be_and_blind_to_the_mean(dim):
    for integers in RandomConv(2, dim).filters:
        w = integers.double() / 1024
        assert float(w.sum(1).abs().max()) < 0.05
        gram = w @ w.T
        assert torch.allclose(gram.diagonal(), torch.ones(len(w)).double(), atol=0.01)
        if w.shape[0] < w.shape[1]:
            assert float((gram - torch.eye(len(w))).abs().max()) < 0.01


@given(st.integers(1, 3), st.lists(st.integers(1, 17), min_size=1, max_size=3), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=25, deadline=None)
def test_any_size_gives_dim_finite_features_in_any_batch(channels, shape, dtype):
    x = philox_uniform(0, torch.arange(5), (channels, *shape), dtype=dtype)
    net = RandomConv(channels, len(shape))
    features = extract(net, x, (0.0, 1.0))
    assert features.shape == (5, net.dim)
    assert bool(features.isfinite().all())
    assert torch.allclose(net(x[2:3], (0.0, 1.0)), features[2:3], atol=1e-5)


def test_features_do_not_depend_on_the_models_units():
    x = blobs(4, (16, 16))
    net = RandomConv(1, 2)
    assert torch.allclose(net(x, (0.0, 1.0)), net(2000 * x - 1000, (-1000.0, 1000.0)), atol=1e-4)


def test_both_are_extractors():
    assert isinstance(RandomConv(1, 2), Extractor)
    assert isinstance(Identity(torch.zeros(2, 3)), Extractor)


STEPS = {
    "blur": (blurred, (0.0, 0.5, 1.0, 2.0)),
    "noise": (lambda x, s: x + s * philox_normal(77, torch.arange(len(x)), tuple(x.shape[1:])), (0.0, 0.05, 0.1, 0.2)),
    "contrast": (lambda x, s: 0.5 + (x - 0.5) * s, (1.0, 0.9, 0.7, 0.4)),
    "brightness": (lambda x, s: x + s, (0.0, 0.03, 0.1, 0.2)),
    "displacement": (lambda x, s: x.roll(round(s * x.shape[-1]), -1), (0.0, 1 / 12, 1 / 6, 1 / 3)),
}


SHAPES = [(64,), (24, 24), (12, 12, 12)]


@cache
def features(shape, seed):
    return extract(RandomConv(1, len(shape)), blobs(600, shape, seed), (0.0, 1.0))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_distances_grow_with_every_distortion(name, shape):
    change, strengths = STEPS[name]
    real, other = features(shape, 0)[:200], blobs(600, shape, 1)[:200]
    sets = [extract(RandomConv(1, len(shape)), change(other, s), (0.0, 1.0)) for s in strengths]
    for metric in (frechet_distance, kid):
        values = [metric(real, fake) for fake in sets]
        assert all(a < b for a, b in pairwise(values)), (metric.__name__, values)


@pytest.mark.parametrize("shape", SHAPES)
def test_missing_modes_raise_distances_and_lower_recall_and_coverage(shape):
    mode = (philox_uniform(1, torch.arange(600), (len(shape) + 1,))[:, -1] * 4).floor()
    real = features(shape, 0)[:130]
    sets = [features(shape, 1)[mode < kept][:130] for kept in (4, 3, 2, 1)]
    assert [len(s) for s in sets] == [130] * 4
    for metric, sign in ((frechet_distance, 1), (kid, 1), (recall, -1), (coverage, -1)):
        values = [sign * metric(real, fake) for fake in sets]
        assert all(a < b for a, b in pairwise(values)), (metric.__name__, values)
    assert precision(real, sets[3]) > 0.8 * precision(real, sets[0])


def test_identity_standardises_by_the_real_set_and_keeps_constant_columns():
    real = torch.tensor([[0.0, 7.0], [2.0, 7.0]])
    net = Identity(real)
    assert net(real, (0.0, 1.0)).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert net(torch.tensor([[4.0, 8.0]]), (0.0, 1.0)).tolist() == [[3.0, 1.0]]


def test_resizing_averages_down_and_interpolates_up():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert resized(x, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resized(x, (4, 4)) is x
    assert resized(x, (2, 8)).shape == (1, 1, 2, 8)
    assert torch.allclose(resized(torch.ones(1, 2, 5, 6, 7), (3, 9, 7)), torch.ones(1, 2, 3, 9, 7))
    for bad in ((2,), (2, 0)):
        with pytest.raises(DataError, match="`resize` must give 2 sizes"):
            resized(x, bad)


def test_an_extractor_that_lies_about_its_output_is_refused():
    class Wrong:
        name, dim, recipe = "wrong", 3, {}

        def __init__(self, out):
            self.out = out

        def __call__(self, x, value_range):
            return self.out

    x = torch.zeros(2, 1, 4)
    for out, words in ((torch.zeros(2, 4), r"shape \(2, 3\); got \(2, 4\)"), ([1], "got list"), (torch.full((2, 3), torch.nan), "NaN")):
        with pytest.raises(DataError, match=words):
            extract(Wrong(out), x, (0.0, 1.0))


def test_vectors_have_no_convolutions():
    with pytest.raises(DataError, match="medgen-identity-v1"):
        RandomConv(3, 0)
