"""Whether conditional samples show what they were asked for, by a classifier of real ones that knows nothing of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from medgen.errors import DataError
from medgen.evaluation.plan import metric_plan

__all__ = ["Classifier", "class_recognition"]

_PENALTY = 1.0  # of the squared weights of standardised features, against the summed cross-entropy
_FOLDS = 5


def _recognition_of_real(real: Tensor, _fake: Tensor, labels: Tensor, _asked: Tensor) -> Mapping[str, float]:
    """Cross-validated on the real samples: what the classifier recognises of samples that it has not seen."""
    fold = torch.arange(len(real)) % _FOLDS
    hits = torch.zeros(len(real), dtype=torch.bool)
    for k in range(_FOLDS):
        hits[fold == k] = Classifier(real[fold != k], labels[fold != k])(real[fold == k]) == labels[fold == k]
    return {"of held-out real samples": float(hits.double().mean())}


@metric_plan(
    recipe={
        "classifier": "multinomial logistic regression of standardised features, penalty |w|^2 / 2, trained on the real samples",
    },
    limits=(0.0, 1.0),
    least=20,
    labels=True,
    details=_recognition_of_real,
)
def class_recognition(real: Tensor, fake: Tensor, labels: Tensor, asked: Tensor) -> float:
    """Share of generated samples that a classifier trained on the real ones assigns to the class they were asked for.

    The note says what the same classifier recognises of real samples outside its folds: a figure near that one is as good as it gets.

    Args:
        real: features [N, F].
        fake: features [M, F].
        labels: classes of the real samples [N].
        asked: classes that the generated samples were asked for [M].

    Raises:
        DataError: the real samples show fewer than two classes.

    Paper: Classification Accuracy Score for Conditional Generative Models (Ravuri & Vinyals, 2019) | https://arxiv.org/abs/1905.10887

    >>> x, y = torch.tensor([[-1.0], [1.0]]).repeat(20, 1), torch.tensor([0, 1]).repeat(20)
    >>> class_recognition(x, x, y, y), class_recognition(x, -x, y, y)
    (1.0, 0.0)
    """
    return float((Classifier(real, labels)(fake) == asked).double().mean())


class Classifier:
    """argmin over W, b of sum_i cross-entropy(W x_i + b, y_i) + |W|^2 / 2, x standardised; called with features [M, F], gives classes [M].

    Raises:
        DataError: fewer than two classes.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.classes = torch.unique(y)
        if len(self.classes) < 2:
            raise DataError(f"a classifier needs samples of at least two classes; got {self.classes.tolist()}.")
        x = x.double()
        self.mean, self.scale = x.mean(0), x.std(0).clamp(min=1e-12)
        inputs, target = self._inputs(x), torch.searchsorted(self.classes, y)
        self.weights = torch.zeros(len(self.classes), inputs.shape[1], dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS([self.weights], max_iter=200, tolerance_grad=1e-6 * math.sqrt(len(x)), line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            solver.zero_grad()
            loss = torch.nn.functional.cross_entropy(inputs @ self.weights.T, target, reduction="sum")
            loss = loss + 0.5 * _PENALTY * self.weights[:, :-1].square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            solver.step(closure)
        self.weights.requires_grad_(False)

    def __call__(self, x: Tensor) -> Tensor:
        """The most probable class of each row."""
        return self.classes[(self._inputs(x.double()) @ self.weights.T).argmax(1)]

    def _inputs(self, x: Tensor) -> Tensor:
        """Standardised features and a one [N, F + 1]."""
        return torch.cat(((x - self.mean) / self.scale, torch.ones(len(x), 1, dtype=torch.float64)), 1)
