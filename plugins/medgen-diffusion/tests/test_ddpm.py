"""`ddpm`: samples of exact denoisers, units, guidance, inpainting, memory."""

from __future__ import annotations

import pytest
import torch
from ddpm_models import LABEL, TINY, random_model, spec_of
from diffusion_oracles import exact

import medgen
from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Noise
from medgen.nn import PeakMemory
from medgen.registry import ConditionSpec, Intensity
from medgen.testing.subject import perturb


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize(
    ("sampler", "kept", "sd"), [("ancestral", 50, 0.44), ("ancestral", None, 0.484), ("ddim", 250, 0.494), ("dpm_solver", 20, 0.505)]
)
def test_samples_of_the_exact_denoiser(prediction, sampler, kept, sd):
    """Of N(0.3, 0.5^2): the strided ancestral chain is somewhat narrow, at 50 steps 0.44 and at 250 0.484."""
    model = exact(schedule="linear", prediction=prediction, sampler=sampler, sampling_steps=kept)
    found = model.sample(3000, noise=1, micro_batch=3000)
    assert found.mean().item() == pytest.approx(0.3, abs=0.02)
    assert found.std().item() == pytest.approx(sd, abs=0.02)


def test_the_learned_variance_is_used():
    """With the true variance the chain is exact at any stride: strided steps take it between their own two ends."""
    narrow, right = (
        exact(steps=60, sampler="ancestral", sampling_steps=60, variance=v).sample(4000).std() for v in ("posterior", "learned")
    )
    assert right.item() == pytest.approx(0.5, abs=0.01)
    assert abs(narrow.item() - 0.5) > 0.015


def test_eta_one_is_the_posterior_chain():
    a = exact(sampler="ancestral", sampling_steps=20).sample(4)
    b = exact(sampler="ddim", eta=1.0, sampling_steps=20).sample(4)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm_solver"])
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_samples_lie_within_the_bounds(sampler, dim):
    model = random_model(dim, sampler=sampler, sampling_steps=4, prediction="eps" if dim else "v")
    found = model.sample(3)
    assert found.shape == (3, *model.image_spec.size)
    if dim:
        assert found.min() >= 0
        assert found.max() <= 1


def test_units_of_the_data():
    """What a model of data in [0, 1] draws, one of HU draws in HU."""
    plain = random_model(2)
    spec = medgen.ImageSpec(channels=2, shape=(9, 12), intensity=Intensity(low=(-600,), high=(1400,), range=(-600.0, 1400.0)))
    lung = medgen.create("ddpm", spec, **TINY).eval()
    lung.load_state_dict(plain.state_dict())
    torch.testing.assert_close(lung.sample(2), 2000 * plain.sample(2) - 600, rtol=1e-4, atol=1e-2)


def test_label_maps_are_one_hot():
    spec = medgen.ImageSpec(channels=3, shape=(5, 4), content="labels")
    model = medgen.create("ddpm", spec, **TINY)
    perturb(model)
    found = model.sample(6)
    assert bool(((found == 0) | (found == 1)).all())
    assert bool((found.sum(1) == 1).all())
    assert bool((found.sum((0, 2, 3)) > 0).all())


def test_the_scale_of_tables_is_measured():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 2, generator=generator) * torch.tensor([1e-3, 50.0]) + torch.tensor([1e4, -3.0])
    model = exact()
    model.prepare(lambda: [Batch(part) for part in x.split(64)])
    torch.testing.assert_close(model.scaling.mean, x.double().mean(0))
    torch.testing.assert_close(model.scaling.sd, x.double().std(0, correction=0))
    found = model.sample(2000, micro_batch=2000)
    torch.testing.assert_close(found.mean(0), model.scaling.mean + 0.3 * model.scaling.sd, rtol=0.02, atol=0.5)
    torch.testing.assert_close(found.std(0), 0.5 * model.scaling.sd, rtol=0.06, atol=0)


def test_a_constant_column_does_no_harm():
    model = exact()
    model.prepare(lambda: [Batch(torch.tensor([[2.0, 1.0], [2.0, 3.0]]))])
    assert model.scaling.sd.tolist() == [1.0, 1.0]
    assert bool(model.sample(3).isfinite().all())


def test_dynamic_threshold_changes_what_saturates():
    static, dynamic, free = (random_model(2, threshold=t, sampling_steps=4).sample(4) for t in ("static", "dynamic", "none"))
    assert not torch.equal(static, dynamic)
    assert not torch.equal(static, free)
    assert (dynamic == dynamic.clamp(0, 1)).all()


@pytest.mark.parametrize(("sampler", "resample"), [("ancestral", 1), ("ancestral", 4), ("ddim", 1), ("dpm_solver", 1)])
def test_filling_in(sampler, resample):
    """What is known comes back; the rest, independent here, keeps its distribution."""
    model = exact(schedule="linear", sampler=sampler, sampling_steps=100, resample=resample)
    x, known = torch.tensor([[1.5, 0.0]], dtype=torch.float64).expand(2000, 2), torch.tensor([True, False])
    found = model.inpaint(x, known.expand(2000, 2), micro_batch=2000)
    assert bool((found[:, 0] == 1.5).all())
    assert found[:, 1].mean().item() == pytest.approx(0.3, abs=0.05)
    assert found[:, 1].std().item() == pytest.approx(0.48, abs=0.05)


@pytest.mark.parametrize(("sampler", "rounds"), [("ancestral", 5), ("ddim", 5), ("dpm_solver", 1)])
def test_filling_in_takes_every_step_anew_where_the_sampler_can(sampler, rounds):
    x, known = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[True, False]])
    by_default, asked = (exact(sampler=sampler, sampling_steps=10, **how).inpaint(x, known) for how in ({}, {"resample": rounds}))
    assert torch.equal(by_default, asked)


# ------------------------------------------------------------------------------------------------------- guidance


def test_guidance():
    """u + s (c - u) of the network's output: 1 is the condition, 0 none, and their mixture in one step is linear."""
    config = {"condition_dropout": 0.5, "sampling_steps": 1, "threshold": "none", "schedule": "linear", "steps": 30}
    condition = Condition({"label": torch.tensor([0, 1, 1])})
    models = {s: random_model(0, [LABEL], guidance=s, **config) for s in (0.0, 1.0, 3.0)}
    drawn = {s: model.sample(3, condition=condition, noise=4) for s, model in models.items()}
    torch.testing.assert_close(drawn[0.0], models[1.0].sample(3, noise=4))
    torch.testing.assert_close(drawn[3.0], drawn[0.0] + 3 * (drawn[1.0] - drawn[0.0]), rtol=1e-4, atol=1e-4)


def test_a_sample_without_a_condition_is_not_guided():
    config = {"condition_dropout": 0.5, "sampling_steps": 2, "threshold": "none"}
    condition = Condition({"label": torch.tensor([0, -1])}, {"label": torch.tensor([True, False])})
    guided, plain = (random_model(2, [LABEL], guidance=s, **config).sample(2, condition=condition) for s in (4.0, 1.0))
    torch.testing.assert_close(guided[1], plain[1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(guided[0], plain[0], rtol=1e-2, atol=1e-2)


def test_what_does_not_fit_is_refused():
    for values, words in [
        ({"guidance": 2.0, "condition_dropout": 0.0}, "trained with `condition_dropout`"),
        ({"guidance": 2.0}, "needs a model with conditions"),
        ({"schedule": "linear", "steps": 20}, "more than 20 `steps`"),
        ({"sampling_steps": 9}, "must not exceed"),
        ({"variance": "learned", "loss": "simple"}, "cannot train a learned variance"),
        ({"sampler": "dpm_solver", "cuda_graph": True}, "`cuda_graph` needs `sampler` ancestral"),
        ({"sampler": "dpm_solver", "resample": 2}, "`resample` needs `sampler` ancestral"),
        ({"loss": "hybrid"}, "hybrid is for a learned variance"),
        ({"attention": [2]}, "`attention` must name"),
        ({"sampling_steps": 8, "spacing": "quadratic"}, "fall on each other"),
    ]:
        with pytest.raises(ConfigError, match=words):
            medgen.create("ddpm", spec_of(2), **{**TINY, **values})
    for values in ({"threshold": "dynamic"}, {"prediction": "eps"}):
        with pytest.raises(ConfigError, match="needs data with a range"):
            medgen.create("ddpm", spec_of(0), **{**TINY, **values})
    image = ConditionSpec(name="mask", kind="image", image=medgen.ImageSpec(channels=1, shape=(4, 4)))
    with pytest.raises(ConfigError, match="must lie on the grid"):
        medgen.create("ddpm", spec_of(2), [image], **TINY)


# --------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("dim", [2, 3])
def test_sampling_keeps_to_a_memory_budget(dim, guidance):
    condition = Condition({"label": torch.arange(12) % 2})
    free = random_model(dim, [LABEL], guidance=guidance, sampling_steps=2)
    with PeakMemory() as memory:
        wanted = free.sample(12, condition=condition)
    budget = memory.peak / 3
    bound = random_model(dim, [LABEL], guidance=guidance, sampling_steps=2, sampling_memory=budget / 2**30)
    bound.sample(1, condition=condition[:1])  # measures
    with PeakMemory() as memory:
        found = bound.sample(12, condition=condition)
    assert memory.peak <= budget
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    rows = [part.stop - part.start for part in bound._turns(12, condition, Noise.of(0, range(12)))]
    assert sum(rows) == 12
    assert 1 < rows[0] < 12  # it uses what it has
    with pytest.raises(ConfigError, match=r"`sampling_memory` of .* is too little"):
        random_model(dim, [LABEL], guidance=guidance, sampling_memory=1e-6).sample(2)
