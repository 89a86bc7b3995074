"""Masked autoregressive networks and the transform made of one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.nn.flow import Chain, Inverted, Made, MaskedAffineAutoregressive

ORDERS = ("sequential", "reversed", "random")
HIDDEN = ([], [1], [7], [16, 5], [3, 4, 20])


def roughen(module, seed=0, scale=0.5):
    """Weights far from the near-identity they start at."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def jacobian(f, x):
    """d f(x)[b, i] / d x[b, j] of a function of rows."""
    return torch.autograd.functional.jacobian(lambda v: f(v).sum(0), x).movedim(1, 0)


class TestMade:
    @given(
        st.integers(1, 9),
        st.sampled_from(HIDDEN),
        st.sampled_from(ORDERS),
        st.sampled_from(["sequential", "random"]),
        st.integers(0, 99),
        st.integers(0, 3),
    )
    @settings(max_examples=60, deadline=None)
    def test_the_jacobian_is_autoregressive(self, features, hidden, order, degrees, seed, context):
        made = roughen(
            Made(features, 3, hidden, order=order, degrees=degrees, seed=seed, context=context, activation="silu").double(), seed
        )
        x, c = torch.randn(4, features, dtype=torch.float64), torch.randn(4, context, dtype=torch.float64) if context else None
        by_x = jacobian(lambda v: made(v, c), x).unflatten(1, (3, features))
        place = made.degrees[0]
        later = place[None, :] >= place[:, None]
        assert sorted(place.tolist()) == list(range(1, features + 1))
        assert (by_x[:, :, later] == 0).all()

    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("hidden", [[], [40], [40, 30], [5], [3, 5]], ids=str)
    def test_everything_before_is_seen(self, order, hidden):
        """With as many units as degrees an output sees all that it may; with fewer, still every feature but the last is seen."""
        made = roughen(Made(6, 1, hidden, order=order, activation="tanh").double())
        by_x = jacobian(made, torch.randn(5, 6, dtype=torch.float64)).abs().sum(0)
        place = made.degrees[0]
        if not hidden or min(hidden) >= 5:
            assert (by_x[place[None, :] < place[:, None]] > 0).all()
        assert (by_x.sum(0)[place < 6] > 0).all()

    @pytest.mark.parametrize("features", [1, 2, 5])
    @pytest.mark.parametrize("hidden", HIDDEN, ids=str)
    @pytest.mark.parametrize("degrees", ["sequential", "random"])
    def test_every_output_depends_on_the_context(self, features, hidden, degrees):
        """nflows' and others' first feature does not: all hidden units that see the context are masked from it."""
        made = roughen(Made(features, 2, hidden, context=2, degrees=degrees).double())
        x, c = torch.randn(5, features, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
        by_context = jacobian(lambda v: made(x, v), c)
        assert (by_context.abs().sum(0) > 0).all()

    def test_the_first_feature_depends_on_the_context_not_only_linearly(self):
        made = roughen(Made(3, 1, [12], context=1, activation="tanh").double())
        c = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
        first = made(torch.zeros(9, 3, dtype=torch.float64), c)[:, 0]
        assert first.diff().diff().abs().max() > 1e-3

    def test_hidden_degrees_of_the_paper(self):
        made = Made(5, 1, [7, 9])
        assert made.degrees[1].tolist() == [1, 2, 3, 4, 1, 2, 3]
        assert made.degrees[2].tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 1]
        drawn = Made(5, 1, [50, 50], degrees="random", seed=3)
        assert set(drawn.degrees[1].tolist()) == {1, 2, 3, 4}
        assert drawn.degrees[2].min() >= drawn.degrees[1].min()

    def test_random_orders_are_a_function_of_the_seed(self):
        one, same, other = (Made(20, order="random", degrees="random", seed=s).degrees for s in (1, 1, 2))
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
        assert not torch.equal(one[0], other[0])
        torch.manual_seed(0)
        before = torch.random.get_rng_state()
        Made(4, hidden=[], order="random")  # weights draw, orders do not
        torch.manual_seed(0)
        Made(4, hidden=[])
        after = torch.random.get_rng_state()
        torch.random.set_rng_state(before)
        Made(4, hidden=[], order="random")
        assert torch.equal(torch.random.get_rng_state(), after)

    def test_masked_weights_get_no_gradient(self):
        made = Made(4, 2, [6])
        made(torch.randn(3, 4)).sum().backward()
        for layer in made.layers:
            assert (layer.weight.grad[layer.mask == 0] == 0).all()


@pytest.mark.parametrize("form", ["affine", "gated"])
class TestTransform:
    def make(self, form, features=6, context=0, **options):
        layer = MaskedAffineAutoregressive(features, [16, 12], context=context, form=form, activation="tanh", **options)
        return roughen(layer.double())

    @pytest.mark.parametrize("context", [0, 3])
    @pytest.mark.parametrize("order", ORDERS)
    def test_log_det_is_that_of_the_jacobian(self, form, order, context):
        layer = self.make(form, order=order, context=context)
        x, c = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, context, dtype=torch.float64) if context else None
        found = torch.linalg.slogdet(jacobian(lambda v: layer(v, c)[0], x))
        torch.testing.assert_close(layer(x, c)[1], found.logabsdet)
        assert (found.sign == 1).all()
        z = layer(x, c)[0]
        back = torch.linalg.slogdet(jacobian(lambda v: layer.inverse(v, c)[0], z.detach()))
        torch.testing.assert_close(layer.inverse(z, c)[1], back.logabsdet)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
    @pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 2, 3), (6, 1, 1, 1)], ids=str)
    def test_inverse(self, form, shape, dtype, tolerance):
        layer = self.make(form, context=2).to(dtype)
        generator = torch.Generator().manual_seed(1)
        x, c = torch.randn(40, *shape, generator=generator, dtype=dtype), torch.randn(40, 2, generator=generator, dtype=dtype)
        z, log_det = layer(x, c)
        back, minus = layer.inverse(z, c)
        assert z.shape == back.shape == x.shape
        assert log_det.dtype == minus.dtype == dtype
        torch.testing.assert_close(back, x, atol=tolerance * 10, rtol=tolerance * 10)
        torch.testing.assert_close(minus, -log_det, atol=tolerance, rtol=tolerance)

    def test_starts_near_the_identity(self, form):
        layer = MaskedAffineAutoregressive(5, [16], form=form)
        x = torch.randn(20, 5)
        z, _ = layer(x)
        factor = 1.0 if form == "affine" else math.exp(5 * math.tanh(math.log(1 / (1 + math.exp(-2))) / 5))
        torch.testing.assert_close(z, factor * x, atol=0.2, rtol=0)

    def test_no_scale_is_out_of_bounds(self, form):
        layer = MaskedAffineAutoregressive(3, [8], form=form, s_max=2.0)
        with torch.no_grad():
            layer.made.layers[-1].bias[:3] = torch.tensor([1e6, -1e6, 0.0])
        log_det = layer(torch.randn(4, 3))[1]
        assert (log_det.abs() <= 6.0).all()
        assert layer.inverse(torch.randn(4, 3))[0].isfinite().all()

    def test_turned_round_it_samples_in_one_pass(self, form):
        layer = self.make(form)
        x = torch.randn(4, 6, dtype=torch.float64)
        torch.testing.assert_close(Inverted(layer).inverse(x)[0], layer(x)[0])
        torch.testing.assert_close(Inverted(layer)(layer(x)[0])[0], x)


def test_gradients_of_a_stack_in_both_directions():
    stack = roughen(
        Chain(
            [
                MaskedAffineAutoregressive(3, [5], context=2, activation="tanh"),
                Inverted(MaskedAffineAutoregressive(3, [5], context=2, activation="silu")),
            ]
        ).double()
    )
    x, c = torch.randn(2, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    parameters = tuple(stack.parameters())
    assert torch.autograd.gradcheck(lambda a, b, *_: stack(a, b), (x, c, *parameters))
    assert torch.autograd.gradcheck(lambda a, b, *_: stack.inverse(a, b), (x, c, *parameters))
