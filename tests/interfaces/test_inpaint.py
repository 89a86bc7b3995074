"""`inpaint`: against the closed form of a correlated Gaussian, with every mask, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from testing.mutants.config import SmallConfig
from testing.mutants.inpainting import Correlated

from medgen.errors import ConditionError, ConfigError, DataError
from medgen.interfaces import Condition, Noise
from medgen.registry import ConditionSpec, ImageSpec
from medgen.testing.subject import perturb

SPEC = ImageSpec(channels=2, shape=(2, 3))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = Correlated(SmallConfig(), SPEC).double().eval()
    perturb(found)
    return found


def x_of(n):
    return Noise(9, torch.arange(n)).normal(*SPEC.size, dtype=torch.float64)


def test_what_is_filled_in_follows_the_conditional_distribution(model):
    """Mean and covariance of x_u given x_K, for one x and 40,000 seeds."""
    n = 40_000
    x, known = x_of(1), torch.zeros(SPEC.size, dtype=torch.bool)
    known[0] = known[1, 0, 0] = True
    found = model.inpaint(x.expand(n, -1, -1, -1), known, micro_batch=4096).flatten(1)
    at, open_ = known.flatten(), ~known.flatten()
    cov, mean = (model.factor() @ model.factor().T).detach(), model.base.detach()
    gain = torch.linalg.solve(cov[at][:, at], cov[at][:, open_]).T
    wanted = mean[open_] + gain @ (x.flatten()[at] - mean[at])
    left = cov[open_][:, open_] - gain @ cov[at][:, open_]
    drawn = found[:, open_]
    sd = left.diagonal().sqrt()
    assert bool(((drawn.mean(0) - wanted).abs() < 5 * sd / n**0.5).all())
    torch.testing.assert_close(drawn.T.cov(), left, atol=5 * float(left.max()) * (2 / n) ** 0.5, rtol=0)


@pytest.mark.parametrize("shape", [(4, 1, 2, 3), (4, 2, 2, 3), (1, 1, 2, 3), (2, 3), (2, 1, 1), (4, 1, 1, 1), (3,), ()])
def test_any_mask_that_broadcasts(model, shape):
    known = torch.ones(shape, dtype=torch.bool)
    known.view(-1)[: max(1, known.numel() // 2)] = False
    x, every = x_of(4), known.expand(4, *SPEC.size)
    found = model.inpaint(x, known)
    assert torch.equal(found[every], x[every])
    assert bool((found[~every] != x[~every]).all())


def test_what_is_not_known_is_never_looked_at(model):
    x, known = x_of(4), torch.rand(4, 1, 2, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    nonsense = torch.where(known, x, torch.nan)
    assert torch.equal(model.inpaint(nonsense, known), model.inpaint(x, known))
    assert bool(nonsense.isnan().any()), "the input stays as it was"


def test_all_known_none_known_and_no_samples(model):
    x = x_of(3)
    assert torch.equal(model.inpaint(x, torch.ones(1, dtype=torch.bool)), x)
    torch.testing.assert_close(model.inpaint(x, torch.zeros(1, dtype=torch.bool), noise=5), model.sample(3, noise=5))
    assert model.inpaint(x[:0], torch.ones(1, dtype=torch.bool)).shape == (0, *SPEC.size)


def test_channels_of_a_label_map_are_known_together():
    model = Correlated(SmallConfig(), ImageSpec(channels=2, shape=(2, 3), content="labels"))
    x, known = torch.zeros(4, 2, 2, 3), torch.ones(4, 2, 2, 3, dtype=torch.bool)
    with pytest.raises(DataError, match=r"`mask` must broadcast to \[4, 1, 2, 3\]; got \(4, 2, 2, 3\)"):
        model.inpaint(x, known)
    assert model.inpaint(x, known[:, :1]).shape == x.shape


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": torch.ones(4, 1, 2, 3)}, DataError, "`mask` must be bool, True where `x` is known; got torch.float32"),
        ({"mask": torch.ones(5, 1, 2, 3, dtype=torch.bool)}, DataError, r"must broadcast to \[4, 2, 2, 3\]; got \(5, 1, 2, 3\)"),
        ({"mask": torch.ones(1, 4, 1, 2, 3, dtype=torch.bool)}, DataError, "must broadcast to"),
        ({"x": torch.zeros(4, 2, 3)}, DataError, r"`x` must have shape \[B, 2, 2, 3\]"),
        ({"noise": Noise(0, torch.arange(3))}, ConfigError, "`noise` must be for 4 samples"),
        ({"micro_batch": 0}, ConfigError, "`micro_batch` must be at least 1"),
        ({"condition": Condition({"label": torch.zeros(4, dtype=torch.int64)})}, ConditionError, "takes the conditions none"),
    ],
)
def test_mistakes(model, options, error, message):
    with pytest.raises(error, match=message):
        model.inpaint(**{"x": x_of(4), "mask": torch.ones(1, dtype=torch.bool), **options})
