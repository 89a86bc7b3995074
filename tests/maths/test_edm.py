"""EDM's levels and preconditioning: what the paper asks of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.maths import edm_preconditioning, edm_weight, karras_sigmas


class TestSigmas:
    @given(st.integers(2, 200), st.floats(1e-4, 0.1), st.floats(1.0, 200.0), st.floats(1.0, 10.0))
    def test_even_in_the_root(self, steps, smallest, largest, rho):
        sigmas = karras_sigmas(steps, smallest=smallest, largest=largest, rho=rho)
        assert sigmas.dtype == torch.float64
        assert float(sigmas[-1]) == 0
        assert float(sigmas[0]) == pytest.approx(largest)
        assert float(sigmas[-2]) == pytest.approx(smallest, rel=1e-6)
        gaps = sigmas[:-1].pow(1 / rho).diff()
        assert bool((gaps < 0).all())
        torch.testing.assert_close(gaps, gaps[:1].expand_as(gaps), rtol=1e-6, atol=1e-9)

    def test_equation_5(self):
        expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
        assert karras_sigmas(18).tolist() == pytest.approx([*expected, 0.0], rel=1e-9)
        assert karras_sigmas(1).tolist() == pytest.approx([80.0, 0.0])

    def test_refusals(self):
        for wrong in ({"steps": 0}, {"steps": 5, "rho": 0.0}, {"steps": 5, "smallest": 2.0, "largest": 1.0}, {"steps": 5, "smallest": 0.0}):
            with pytest.raises(ConfigError, match="smallest"):
                karras_sigmas(**wrong)


class TestPreconditioning:
    @given(st.floats(1e-3, 100.0), st.floats(0.1, 3.0))
    def test_unit_variances(self, sigma, sd):
        """Var(c_in x) = 1; the target (x_0 - c_skip x) / c_out has unit variance, and c_skip is what makes c_out smallest."""
        sigma = torch.tensor(sigma, dtype=torch.float64)
        skip, out, scale, noise = edm_preconditioning(sigma, sd)
        one = torch.ones((), dtype=torch.float64)
        torch.testing.assert_close(scale.square() * (sd**2 + sigma**2), one)
        target = lambda c: (1 - c) ** 2 * sd**2 + c**2 * sigma**2  # noqa: E731
        torch.testing.assert_close(target(skip), out.square())
        assert target(skip) <= min(target(skip + 1e-3), target(skip - 1e-3))
        torch.testing.assert_close(noise, sigma.log() / 4)
        torch.testing.assert_close(edm_weight(sigma, sd) * out.square(), one)
