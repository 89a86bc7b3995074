"""The families of this distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_families"]

_MADE = medgen.Reference(
    title="MADE: Masked Autoencoder for Distribution Estimation",
    authors="M. Germain, K. Gregor, I. Murray, H. Larochelle",
    year=2015,
    url="https://arxiv.org/abs/1502.03509",
)
_MAF = medgen.Reference(
    title="Masked Autoregressive Flow for Density Estimation",
    authors="G. Papamakarios, T. Pavlakou, I. Murray",
    year=2017,
    url="https://arxiv.org/abs/1705.07057",
)

_CONDITIONS = (medgen.ConditionSlot(name="label", kind="label"), medgen.ConditionSlot(name="attributes", kind="attributes"))


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """made, maf."""
    yield _autoregressive("made", "Made", "Masked autoencoder: exact density in one pass, every value given those before", (_MADE,))
    yield _autoregressive("maf", "Maf", "Masked autoregressive flow: a stack of masked autoencoders", (_MAF,), {"layers": 2})


def _autoregressive(
    name: str, model: str, summary: str, references: tuple[medgen.Reference, ...], tiny: dict[str, object] | None = None
) -> medgen.FamilySpec:
    """A family of one network over all values of a sample, whatever its axes."""
    return medgen.FamilySpec(
        name=name,
        interfaces=("generator", "density", "latent"),
        model=f"medgen_flows.autoregressive:{model}",
        config=f"medgen_flows.config:{model}Config",
        capabilities=medgen.Capabilities(
            spatial_dims=(0, 1, 2, 3),
            contents=("intensity", "features"),
            conditions=_CONDITIONS,
            log_prob="exact",
            invertible=True,
            ops=("made_invert", "affine_coupling"),
        ),
        tiny={"hidden": [16], **(tiny or {})},
        summary=summary,
        references=references,
    )
