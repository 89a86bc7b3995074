"""Adversarial families in the loop: what they log, the alarm, averages, resume, and what they refuse."""

from __future__ import annotations

import pytest
import torch

import medgen
from medgen.data import from_arrays
from medgen.data.phantoms.toys import gaussians8
from medgen.errors import CollapseWarning, ConfigError
from medgen.interfaces import Condition, Noise
from medgen.registry import ConditionSpec, ImageSpec
from medgen.runs import Run
from medgen.training import resume, train
from medgen.training.loop import Loop

SMALL = {"latent_dim": 4, "channels": [16, 16]}


def names(run, phase):
    return {row["name"] for row in run.metrics() if row["phase"] == phase and row["split"] == "train"}


@pytest.mark.parametrize(
    ("family", "players"),
    [
        (
            "gan",
            {
                "discriminator": {"loss", "real", "fake", "accuracy", "r1"},
                "generator": {"loss", "diversity", "matching"},
            },
        ),
        ("wgan_gp", {"discriminator": {"loss", "real", "fake", "distance", "penalty"}, "generator": {"loss", "diversity"}}),
        (
            "acgan",
            {
                "discriminator": {"loss", "real", "fake", "accuracy", "class_real", "class_fake", "class_accuracy"},
                "generator": {"loss", "diversity", "class", "class_accuracy"},
            },
        ),
        (
            "vae_gan",
            {
                "discriminator": {"loss", "real", "fake", "accuracy"},
                "encoder": {"loss", "features", "kl"},
                "generator": {"loss", "diversity", "features"},
            },
        ),
    ],
)
def test_both_players_are_in_the_metrics(tmp_path, family, players):
    more = {"r1": 0.1, "feature_matching": 1.0} if family == "gan" else {}
    run = train(family, gaussians8(n=200), tmp_path / "a", model={**SMALL, **more}, steps=3, batch_size=16, show=False)
    for player, wanted in players.items():
        assert names(run, player) == wanted
    assert run.model.sample(4).shape == (4, 2)


def test_averaged_weights_are_those_that_sample(tmp_path):
    """With virtual batch normalisation nothing but the averages enters: the statistics are of the averaged weights too."""
    model = {**SMALL, "generator_norm": "virtual", "reference": 8, "generator_lr": 0.02}
    run = train("gan", gaussians8(n=200), tmp_path / "a", model=model, steps=12, batch_size=16, ema=0.9, show=False)
    plain = train("gan", gaussians8(n=200), tmp_path / "b", model=model, steps=12, batch_size=16, show=False)
    a, b = run.model.sample(8), plain.model.sample(8)
    assert torch.isfinite(a).all()
    assert not torch.allclose(a, b)
    assert torch.equal(medgen.load(tmp_path / "a").sample(8), a)


@pytest.mark.parametrize("family", ["gan", "wgan_gp", "vae_gan"])
def test_resume_gives_the_same_bits(tmp_path, monkeypatch, family):
    """Spectral norms, batch statistics and mixing weights included."""
    data, options = gaussians8(n=64), {"model": SMALL, "steps": 6, "batch_size": 8, "checkpoint_every": 3, "show": False}
    whole = train(family, data, tmp_path / "a", **options)
    save = Loop._save

    def saving(self):
        save(self)
        if self.position.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_save", saving)
    with pytest.raises(KeyboardInterrupt):
        train(family, data, tmp_path / "b", **options)
    monkeypatch.undo()
    again = resume(tmp_path / "b", data=data, show=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def test_the_alarm_is_heard_and_stops_where_asked(tmp_path):
    """A generator that cannot move stays at one point."""
    model = {**SMALL, "generator_norm": "none", "generator_lr": 1e-9, "on_collapse": "stop"}
    with pytest.warns(CollapseWarning, match="of the data's diversity"):
        run = train("gan", gaussians8(n=200), tmp_path / "a", model=model, steps=400, batch_size=8, log_every=5, show=False)
    steps = [row["step"] for row in run.metrics()]
    assert 200 <= max(steps) < 260, "it ended soon after the period of grace"
    low = [row["value"] for row in run.metrics() if row["name"] == "diversity"]
    assert max(low[-5:]) < 0.2
    assert Run.open(tmp_path / "a").model.sample(2).shape == (2, 2), "the run is complete all the same"


def test_the_alarm_is_silent_otherwise(tmp_path, recwarn):
    train("gan", gaussians8(n=200), tmp_path / "a", model={**SMALL, "collapse_diversity": 0.0}, steps=5, batch_size=8, show=False)
    assert not [w for w in recwarn if issubclass(w.category, CollapseWarning)]


LABEL = ConditionSpec(name="label", kind="label", names=("a", "b", "c"))


@pytest.mark.parametrize("family", ["acgan", "sgan"])
def test_classes_that_nobody_gave_are_drawn(family):
    model = medgen.create(family, ImageSpec(channels=1, shape=(8, 8)), (LABEL,), **SMALL)
    label = Noise.of(0, range(32)).integers(3, stream=1)
    assert set(label.tolist()) == {0, 1, 2}
    assert torch.equal(model.sample(32), model.sample(32, condition=Condition({"label": label})))
    shares = model.classify(model.sample(5))
    assert shares.shape == (5, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(5))


def test_a_model_without_labels_cannot_classify():
    model = medgen.create("acgan", ImageSpec(channels=1, shape=(8, 8)), **SMALL)
    with pytest.raises(ConfigError, match="has no classes"):
        model.classify(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("family", "config", "sentence"),
    [
        ("gan", {"loss": "hinge", "smoothing": 0.9}, "`smoothing` is for losses with targets"),
        ("gan", {"adversarial": 0.0}, "needs `adversarial` or `feature_matching`"),
        ("wgan_gp", {"discriminator_norm": "batch"}, "`gradient_penalty` is of one sample at a time"),
        ("vae_gan", {"channels": [8, 8], "feature_layer": 2}, "one of the discriminator's 2 layers; got 2"),
    ],
)
def test_what_does_not_fit_is_refused(family, config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        medgen.create(family, ImageSpec(channels=1, shape=(8, 8)), **config)


def test_images_come_back_as_they_are_kept():
    """tanh ends within the data's range, label maps are one class per position."""
    for span in ((0.0, 1.0), (-1.0, 1.0), (-3.0, 5.0)):
        spec = ImageSpec(channels=1, shape=(8, 8), intensity=medgen.Intensity(range=span))
        assert medgen.create("gan", spec, **SMALL).output_range == span
    x = medgen.create("gan", ImageSpec(channels=3, shape=(8, 8), content="labels"), **SMALL).sample(4)
    assert torch.equal(x.sum(1), torch.ones(4, 8, 8))
    assert set(x.unique().tolist()) == {0.0, 1.0}


def test_row_noise_does_not_depend_on_the_batch(tmp_path):
    """Accumulation changes nothing where no norm mixes samples: the mixing of the penalty and z belong to the row."""
    data = from_arrays(torch.randn(64, 2).numpy(), dim=0)
    runs = [
        train(
            "wgan_gp",
            data,
            tmp_path / str(parts),
            model={**SMALL, "generator_norm": "none"},
            steps=4,
            batch_size=8,
            accumulate=parts,
            show=False,
        )
        for parts in (1, 2)
    ]
    first, second = (run.model.sample(8) for run in runs)
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-3)
