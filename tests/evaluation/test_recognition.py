"""`class_recognition` against Gaussians whose best classifier is known, and where labels come from."""

from __future__ import annotations

import pytest
import torch

import medgen
from medgen.errors import ConfigError, DataError
from medgen.evaluation import evaluate_sets
from medgen.evaluation.recognition import Classifier, class_recognition


def gaussians(n: int, gap: float, seed: int, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes at 0, gap, 2 gap, ... on the first of three axes, with unit variance."""
    y = torch.arange(n) % classes
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    x[:, 0] += gap * y
    return x, y


def test_it_is_the_bayes_rate_of_two_gaussians():
    (real, labels), (fake, asked) = gaussians(4000, 2.0, 0), gaussians(20000, 2.0, 1)
    bayes = float(torch.special.ndtr(torch.tensor(1.0)))  # Phi(gap / 2)
    assert class_recognition(real, fake, labels, asked) == pytest.approx(bayes, abs=0.01)


@pytest.mark.parametrize(("share", "classes"), [(0.0, 3), (0.25, 3), (1.0, 4)])
def test_wrong_classes_lower_it_by_their_share(share, classes):
    (real, labels), (fake, asked) = gaussians(600, 9.0, 0, classes), gaussians(600, 9.0, 1, classes)
    wrong = torch.where(torch.arange(600) < share * 600, (asked + 1) % classes, asked)
    assert class_recognition(real, fake, labels, wrong) == pytest.approx(1 - share, abs=0.02)


def test_the_solver_reaches_the_minimum():
    x, y = gaussians(200, 1.0, 2, 3)
    fitted = Classifier(x, y)
    weights = fitted.weights.clone().requires_grad_(True)
    inputs = fitted._inputs(x.double())
    loss = torch.nn.functional.cross_entropy(inputs @ weights.T, y, reduction="sum") + 0.5 * weights[:, :-1].square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    assert gradient.abs().max() < 1e-3


def test_the_note_says_what_it_recognises_of_real_samples():
    (real, labels), (fake, asked) = gaussians(300, 2.0, 0), gaussians(300, 9.0, 1)
    score = evaluate_sets(real, fake, value_range=(0, 1), metrics=["class_recognition"], labels=(labels, asked), bootstrap=10)[0]
    assert score.details["of held-out real samples"] == pytest.approx(0.84, abs=0.06)
    assert "of held-out real samples 0.8" in score.note
    assert score.low <= score.value <= score.high


def test_labels_that_do_not_fit_are_errors():
    x, y = gaussians(40, 2.0, 0)
    with pytest.raises(ConfigError, match="'class_recognition' compares classes; give `labels`"):
        evaluate_sets(x, x, value_range=(0, 1), metrics=["class_recognition"])
    with pytest.raises(DataError, match=r"the class of each of \(40, 40\) samples; got \(40, 39\)"):
        evaluate_sets(x, x, value_range=(0, 1), metrics=["class_recognition"], labels=(y, y[1:]))
    with pytest.raises(DataError, match=r"at least two classes; got \[0\]"):
        class_recognition(x, x, torch.zeros_like(y), y)


def test_a_conditional_run_is_evaluated_with_the_labels_it_was_asked_for(tmp_path):
    tiny = {"latent_dim": 2, "channels": [4]}
    run = medgen.train("cvae", "cardiac_phantom?n=120&size=8", tmp_path / "run", model=tiny, steps=2, split=(0.6, 0.4, 0.0))
    found = {score.name: score for score in medgen.evaluate(run, bootstrap=0)}
    assert 0 <= found["class_recognition"].value <= 1
    plain = medgen.train("vae", "cardiac_phantom?n=60&size=8", tmp_path / "plain", model=tiny, steps=2)
    assert "class_recognition" not in {score.name for score in medgen.evaluate(plain, bootstrap=0)}
    with pytest.raises(ConfigError, match="evaluate a model that is conditional on a label"):
        medgen.evaluate(plain, metrics=["class_recognition"])
