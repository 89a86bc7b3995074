"""`context_aware_gan`: its loss in closed form, the chain of estimates, what each player's loss reaches, and what it learns."""

from __future__ import annotations

import pytest
import torch

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Noise, Step

SMALL = {"width": 4, "layers": 2, "discriminator_channels": [4, 4]}


def create(shape=(8, 8), sources=1, **config):
    mr = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=sources, shape=shape))
    torch.manual_seed(0)
    return medgen.create("context_aware_gan", medgen.ImageSpec(channels=1, shape=shape), [mr], **{**SMALL, **config})


def batch_of(model, n=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    shape = model.image_spec.shape
    source = torch.rand(n, model.source_spec.channels, *shape, generator=rng)
    return Batch(torch.rand(n, 1, *shape, generator=rng), Condition({"source": source})), Step(0, 10, Noise.of(0, range(n)))


def wake(model):
    """Networks start at zero in their last layer; give every parameter a value."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=rng))


def test_the_loss_is_the_papers():
    """a (-mean ln s(D(y'))) + b mean (y - y')^2 + c sum over axes mean (|grad y| - |grad y'|)^2, in units of [-1, 1]."""
    model = create(contexts=0, adversarial=0.5, distance_weight=3.0, gradient_weight=2.0)
    wake(model)
    batch, step = batch_of(model)
    _, generator = model.phases()
    found = float(generator.loss(batch, step)["loss"].detach())
    gan = model.gans[0]
    y, fake = 2 * batch.x - 1, gan(batch.condition).detach()
    slope = sum(((y.diff(dim=a).abs() - fake.diff(dim=a).abs()) ** 2).mean() for a in (2, 3))
    judged = torch.nn.functional.softplus(-gan.discriminator(fake).logits[0]).mean().detach()
    assert found == pytest.approx(float(0.5 * judged + 3 * ((y - fake) ** 2).mean() + 2 * slope), rel=1e-5)


@pytest.mark.parametrize("judged", ["target", "pair"])
def test_the_discriminator_sees_the_target_alone_unless_asked(judged):
    model = create(contexts=1, judged=judged)
    wake(model)
    batch, _ = batch_of(model)
    other, _ = batch_of(model, seed=9)
    with torch.no_grad():
        said = [model.gans[0]._judge(b.condition, None)(batch.x).logits[0] for b in (batch, other)]
    assert torch.equal(*said) == (judged == "target")
    channels = next(model.gans[1].discriminator.parameters()).shape[1]
    assert channels == (1 if judged == "target" else 3), "target; or source, estimate and target"


def test_each_gan_refines_the_estimate_before_it():
    model = create(contexts=2)
    wake(model)
    x = batch_of(model)[0].condition.values["source"]
    first, second, third = model.estimates(x)
    condition = Condition({"source": x})
    with torch.no_grad():
        u = model.gans[0](condition)
        torch.testing.assert_close(first, (u + 1) / 2)
        torch.testing.assert_close(second, (model.gans[1](condition, u) + 1) / 2)
    torch.testing.assert_close(model.translate(x), third)
    for k, wanted in ((0, first), (1, second), (-1, third), (-3, first)):
        model.config = model.config.model_copy(update={"estimate": k})
        torch.testing.assert_close(model.translate(x), wanted)
    assert not torch.equal(first, second)


def test_a_players_loss_reaches_its_own_generator_only():
    model = create(contexts=1)
    wake(model)
    batch, step = batch_of(model)
    names = [phase.name for phase in model.phases()]
    assert names == ["discriminator", "generator", "context1_discriminator", "context1_generator"]
    model.phases()[3].loss(batch, step)["loss"].backward()
    assert all(p.grad is None for p in model.gans[0].parameters())
    assert all(p.grad is not None for p in model.gans[1].generator.parameters())


def test_the_long_skip_adds_the_source():
    """LRes: a network that says 0 leaves the source as it is."""
    model = create(contexts=0, long_skip=True)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model.translate(x), (torch.tanh(2 * x - 1) + 1) / 2)
    mr = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=1, shape=(8, 8)))
    options = {"width": 4, "multipliers": [1], "long_skip": True, "loss": "l2", "uncertainty": True}
    regression = medgen.create("regression", medgen.ImageSpec(channels=1, shape=(8, 8)), [mr], **options)
    with torch.no_grad():
        for p in regression.parameters():
            p.zero_()
    torch.testing.assert_close(regression.translate(x), x)
    with pytest.raises(ConfigError, match="`long_skip` needs a source of 1 channel, or of the target's 1; got 2"):
        create(sources=2, long_skip=True)


def test_wgan_gp_in_three_dimensions():
    """The critic's loss is E D(y') - E D(y) + 10 E (|grad D| - 1)^2, whose own gradient reaches every weight of D."""
    model = create((6, 6, 6), loss="wasserstein", gradient_penalty=10.0, discriminator_norm="none", contexts=0)
    wake(model)
    batch, step = batch_of(model)
    critic, gan = model.phases()[0], model.gans[0]
    values = critic.loss(batch, step)
    values["loss"].backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in gan.discriminator.parameters())
    with torch.no_grad():
        shift = gan.discriminator(gan(batch.condition)).logits[0].mean() - gan.discriminator(2 * batch.x - 1).logits[0].mean()
    assert float(values["loss"].detach() - shift) > 0, "what is left is the penalty"


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="`estimate` must be one of 2"):
        create(contexts=1, estimate=2)
    with pytest.raises(ConfigError, match="above 0"):
        create(adversarial=0, distance_weight=0)


def test_a_context_comes_nearer_than_the_first_estimate(tmp_path):
    """The target is the mean of 5 x 5 source voxels; a second network that sees the first one's estimate comes nearer."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(64, 1, 12, 12, generator=rng)
    y = torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    data = from_arrays(y.numpy(), images={"source": x.numpy()}, split=(0.75, 0, 0.25), window=(0, 1), content="intensity")
    model = {"width": 8, "layers": 2, "contexts": 1, "discriminator_channels": [4, 4], "adversarial": 0.01, "generator_lr": 0.01}
    run = medgen.train("context_aware_gan", data, tmp_path / "r", model=model, steps=100, batch_size=8, device="cpu", show=False)
    batch = data.fetch(data.splits["test"])
    errors = [float((z - batch.x).abs().mean()) for z in run.model.estimates(batch.condition.values["source"])]
    spread = float((batch.x - batch.x.mean()).abs().mean())
    assert errors[1] < errors[0] < 0.8 * spread
    again = medgen.open_run(tmp_path / "r", estimate=0)
    torch.testing.assert_close(
        again.model.translate(batch.condition.values["source"]), run.model.estimates(batch.condition.values["source"])[0]
    )
