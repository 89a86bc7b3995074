"""Numerics: precision, layout in memory and the size of a batch change nothing that matters."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgen.interfaces import Condition
from medgen.testing.expect import close, expect, finite
from medgen.testing.law import law
from medgen.testing.laws.config import QUICK
from medgen.testing.strategies import LAYOUTS, awkward, laid_out
from medgen.testing.subject import Subject
from medgen.testing.verbs import call, inputs_of, verbs_of

N = 4


@law("numerics")
def float64_agrees_with_float32(subject: Subject) -> None:
    """The same weights in float64 give what they give in float32, to the precision of float32."""
    for case in subject.main():
        narrow, wide = subject.model(case), subject.model(case).double()
        given_inputs = inputs_of(subject, narrow, case, N)
        for verb in verbs_of(narrow):
            got, wanted = call(narrow, verb, given_inputs), call(wide, verb, given_inputs.to(torch.float64))
            expect(wanted.dtype == torch.float64, f"{case}: `{verb}` of a float64 model must give float64; got {wanted.dtype}.")
            close(got, wanted, f"{case}: `{verb}` in float32 and in float64", relative=2e-3, absolute=2e-3)


@law("numerics")
def a_batch_of_one_is_enough(subject: Subject) -> None:
    """Every verb gives one sample alone what it gives it in a batch."""
    for case in subject.main():
        model = subject.model(case, dtype=torch.float64)
        every = inputs_of(subject, model, case, N, dtype=torch.float64)
        for verb in verbs_of(model):
            whole = call(model, verb, every)
            for row in (0, N - 1):
                alone = call(model, verb, every[row : row + 1], first=row)
                close(alone, whole[row : row + 1], f"{case}: `{verb}` of sample {row}, alone and in a batch", relative=1e-6, absolute=1e-6)


@law("numerics")
def layout_in_memory_does_not_matter(subject: Subject) -> None:
    """Strided, offset, transposed and channels-last input gives what contiguous input gives."""
    case = subject.typical
    model = subject.model(case, dtype=torch.float64)
    plain = inputs_of(subject, model, case, N, dtype=torch.float64)
    wanted = {verb: call(model, verb, plain) for verb in verbs_of(model)}

    @settings(QUICK, max_examples=2 * len(LAYOUTS))
    @given(x=awkward(plain.x), layout=st.sampled_from(LAYOUTS))
    def check(x: Tensor, layout: str) -> None:
        values = {k: laid_out(v, layout) if v.dim() > 1 else v for k, v in plain.condition.values.items()}
        other = replace(plain, x=x, z=laid_out(plain.z, layout) if plain.z.numel() else plain.z, condition=Condition(values))
        for verb, result in wanted.items():
            what = f"{case}: `{verb}` of x with strides {x.stride()} and all else {layout}"
            close(call(model, verb, other), result, what, relative=1e-9, absolute=1e-9)

    check()


@law("numerics")
def autocast_keeps_log_densities(subject: Subject) -> None:
    """Under bfloat16 autocast every verb stays finite, and log-densities are float32 and near their full precision."""
    for case in subject.main():
        model = subject.model(case)
        given_inputs = inputs_of(subject, model, case, N)
        for verb in verbs_of(model):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                got = call(model, verb, given_inputs)
            finite(got.float(), f"{case}: `{verb}` under autocast")
            if verb == "log_prob":
                expect(got.dtype == torch.float32, f"{case}: `log_prob` under autocast must be float32; got {got.dtype}.")
                allowed = 0.1 * case.image_spec.numel
                close(got, call(model, verb, given_inputs), f"{case}: `log_prob` with and without autocast", relative=0.1, absolute=allowed)
