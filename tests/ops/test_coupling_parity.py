"""Native coupling against the reference: values, gradients, storages, NaN, thread counts, devices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ops.coupling_cases import SHAPES, arranged, assert_relative, fits, make, shapes_and_masks

from medgen.ops import affine_coupling
from medgen.ops.reference import affine_coupling as reference

OP = torch.ops.medgen.affine_coupling.default
BACKWARD = torch.ops.medgen.affine_coupling_backward.default


class TestParity:
    """The op, native where it can be had, against the reference."""

    @given(
        st.integers(0, 2**31),
        st.sampled_from([*SHAPES, (2, 1009), (1, 3, 131, 257)]),
        st.sampled_from(range(6)),
        st.sampled_from(range(3)),
        st.booleans(),
        st.booleans(),
        st.sampled_from([torch.float32, torch.float64]),
        st.sampled_from(["contiguous", "transposed", "unaligned", "strided rows", "expanded"]),
        st.sampled_from([1.0, 1e-30, 80.0]),
    )
    @settings(max_examples=120)
    def test_values_and_gradients(self, seed, shape, mask, bound, full, inverse, dtype, storage, scale):
        assume(fits(shape, reference.MASKS[mask]))
        x, s, t = (arranged(v, storage) for v in make(shape, reference.MASKS[mask], full=full, dtype=dtype, seed=seed, scale=scale))
        form = (mask, shape[1] // 2, bound, 3.0, inverse)
        y, log_det = OP(x, s, t, *form)
        want, want_log_det = reference.affine_coupling(x, s, t, *form)
        eps = torch.finfo(dtype).eps
        assert_relative(y, want, 60 * eps)
        terms = s.abs().flatten(1).sum(1)
        assert ((log_det - want_log_det).abs() <= 40 * eps * (terms + 1e-30)).all()
        g, h, side = torch.randn_like(x), torch.randn_like(log_det), want if inverse else x
        for got, expected in zip(
            BACKWARD(g, h, side, s, False, *form), reference.affine_gradients(g, h, side, s, False, *form), strict=True
        ):
            assert_relative(got, expected, 300 * eps)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("which", [0, 1, 2])
    @pytest.mark.parametrize("inverse", [False, True])
    def test_nan_and_infinity_go_where_the_reference_sends_them(self, bad, which, inverse):
        for bound in range(3):
            inputs = make((3, 70), "odd", seed=1)
            inputs[which][1, 3] = bad
            got, want = OP(*inputs, 3, 35, bound, 2.0, inverse), reference.affine_coupling(*inputs, 3, 35, bound, 2.0, inverse)
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b, equal_nan=True)

    @given(st.integers(1, 80), st.integers(0, 15), st.sampled_from(range(4)), st.sampled_from([torch.float32, torch.float64]))
    def test_nothing_outside_the_output_is_written(self, channels, offset, mask, dtype):
        """Unaligned views between sentinels; the output is poisoned before."""
        n = 3 * channels
        buffer = torch.full((n + 64,), 777.0, dtype=dtype)
        out = buffer[offset : offset + n].view(3, channels)
        out.fill_(math.nan)
        x, s, t = make((3, channels), reference.MASKS[mask], dtype=dtype)
        y, _ = affine_coupling(x, s, t, mask=reference.MASKS[mask], out=out)
        assert y is out
        assert (buffer[:offset] == 777).all()
        assert (buffer[offset + n :] == 777).all()
        assert torch.equal(out, affine_coupling(x, s, t, mask=reference.MASKS[mask])[0])

    def test_the_large_output_path(self):
        """Streaming stores take over at 32 MB."""
        x, p = torch.randn(130, 8, 100, 101), torch.randn(130, 8, 100, 101)
        out = torch.full_like(x, math.nan)
        _, log_det = affine_coupling(x, p, out=out)
        y, want = affine_coupling(x, p)
        assert torch.equal(out, y)
        assert torch.equal(log_det, want)


class TestDeterminism:
    @pytest.mark.parametrize("shape", [(1, 4, 100, 101), (300, 64), (3, 2, 70, 71), (2, 66_000)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_bit_equal_at_any_thread_count_and_address(self, shape, dtype):
        masks = [m for m in reference.MASKS if fits(shape, m)]
        try:
            for mask in masks:
                inputs = make(shape, mask, dtype=dtype)
                results = []
                for threads in (1, 2):
                    torch.set_num_threads(threads)
                    results.append(affine_coupling(*inputs, mask=mask))
                    results.append(affine_coupling(*(arranged(v, "unaligned") for v in inputs), mask=mask))
                assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(results[0], result, strict=True))
        finally:
            torch.set_num_threads(1)

    def test_a_sample_does_not_depend_on_its_batch(self):
        x, s, t = make((50, 64), "second")
        y, log_det = affine_coupling(x, s, t)
        alone = affine_coupling(x[7:8], s[7:8], t[7:8])
        assert torch.equal(alone[0][0], y[7])
        assert torch.equal(alone[1][0], log_det[7])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    @shapes_and_masks
    def test_parity_with_the_cpu(self, shape, mask):
        for inverse in (False, True):
            x, s, t = make(shape, mask)
            got = affine_coupling(x.cuda(), s.cuda(), t.cuda(), mask=mask, inverse=inverse)
            for a, b in zip(got, affine_coupling(x, s, t, mask=mask, inverse=inverse), strict=True):
                torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-5)

    def test_graph_replay_on_another_stream(self):
        x, p = torch.randn(64, 64, device="cuda"), torch.randn(64, 64, device="cuda")
        out = torch.empty_like(x)
        affine_coupling(x, p, out=out)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            _, log_det = affine_coupling(x, p, out=out)
        x.normal_()
        graph.replay()
        torch.cuda.synchronize()
        want = affine_coupling(x, p)
        assert torch.equal(out, want[0])
        assert torch.equal(log_det, want[1])
