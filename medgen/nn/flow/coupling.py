"""Couplings: part of x passes through and decides how the rest is transformed, element by element."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from medgen.nn.flow.transform import Transform
from medgen.ops import additive_coupling, affine_coupling, rq_spline_coupling
from medgen.ops._coupling import mask_number
from medgen.ops.affine_coupling import Bound, Mask
from medgen.ops.reference import affine_coupling as reference
from medgen.ops.reference.rq_spline import LEAST_SLOPE

__all__ = ["AdditiveCoupling", "AffineCoupling", "SplineCoupling", "coupling_sizes"]


def coupling_sizes(channels: int, mask: Mask = "second", split: int | None = None) -> tuple[int, int]:
    """Channels that a coupling's conditioner sees, and channels whose parameters it emits; arguments as in `medgen.ops.affine_coupling`.

    >>> coupling_sizes(5, "first"), coupling_sizes(5, "even"), coupling_sizes(5, "checkerboard_even")
    ((3, 2), (2, 3), (5, 5))
    """
    number = mask_number(mask)
    changed = reference.transformed(channels, number, channels // 2 if split is None else split)
    return (channels if number >= 4 else channels - changed), changed


class _Coupling(Transform):
    """What all couplings share: the conditioner sees what passes through, which is the same in both directions."""

    def __init__(self, conditioner: nn.Module, mask: Mask, split: int | None) -> None:
        super().__init__()
        self.conditioner, self.mask, self.split = conditioner, mask, split
        self._number = mask_number(mask)

    @abstractmethod
    def _coupled(self, x: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """The op."""

    def _emitted(self, x: Tensor, context: Tensor | None) -> Tensor:
        split = x.shape[1] // 2 if self.split is None else self.split
        return self.conditioner(reference.passed(x, self._number, split), context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z and ln |det dz/dx|."""
        return self._coupled(x, self._emitted(x, context), inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and ln |det dx/dz|, at the cost of `forward`."""
        return self._coupled(z, self._emitted(z, context), inverse=True)

    def extra_repr(self) -> str:
        """Shown by repr."""
        return f"mask={self.mask!r}"


class AffineCoupling(_Coupling):
    """z = x exp(b(s)) + t on the elements of `mask`, with [s | t] from the others; ln |det| = sum b(s).

    Args:
        conditioner: called as conditioner(seen [B, P', *S], context), returns [s | t], [B, 2 P, *S]; `coupling_sizes` gives P' and P.
        mask, split, bound, s_max: as in `medgen.ops.affine_coupling`. The bound is what keeps the inverse finite: no scale lies outside
            exp(+-s_max).

    Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2016) | https://arxiv.org/abs/1605.08803

    >>> import torch
    >>> from medgen.nn.flow import MlpConditioner
    >>> coupling = AffineCoupling(MlpConditioner(1, 2), mask="odd")
    >>> z, log_det = coupling(torch.tensor([[1.0, 2.0]]))
    >>> z.tolist(), log_det.tolist()  # the conditioner starts at zero
    ([[1.0, 2.0]], [0.0])
    """

    def __init__(
        self, conditioner: nn.Module, *, mask: Mask = "second", split: int | None = None, bound: Bound = "tanh", s_max: float = 2.0
    ) -> None:
        super().__init__(conditioner, mask, split)
        self.bound: Bound = bound
        self.s_max = s_max

    def _coupled(self, x: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        return affine_coupling(x, parameters, mask=self.mask, split=self.split, bound=self.bound, s_max=self.s_max, inverse=inverse)


class AdditiveCoupling(_Coupling):
    """z = x + t on the elements of `mask`, with t from the others; ln |det| = 0.

    Args:
        conditioner: called as conditioner(seen [B, P', *S], context), returns t, [B, P, *S].
        mask, split: as in `medgen.ops.affine_coupling`.

    Paper: NICE: non-linear independent components estimation (Dinh, Krueger, Bengio, 2014) | https://arxiv.org/abs/1410.8516

    >>> import torch
    >>> AdditiveCoupling(lambda seen, context: 10 * seen, mask="second")(torch.tensor([[1.0, 2.0]]))
    (tensor([[ 1., 12.]]), tensor([0.]))
    """

    def __init__(self, conditioner: nn.Module, *, mask: Mask = "second", split: int | None = None) -> None:
        super().__init__(conditioner, mask, split)

    def _coupled(self, x: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        return additive_coupling(x, parameters, mask=self.mask, split=self.split, inverse=inverse)


class SplineCoupling(_Coupling):
    """z = f(x) on the elements of `mask`: f a monotone rational-quadratic spline on [-tail, tail] with parameters from the others.

    Args:
        conditioner: called as conditioner(seen [B, P', *S], context), returns [B, P (3 bins - 1), *S].
        bins: of each spline.
        tail: half the interval's length; the identity beyond.
        mask, split: as in `medgen.ops.affine_coupling`.

    Paper: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios, 2019) | https://arxiv.org/abs/1906.04032

    >>> import torch
    >>> from medgen.nn.flow import MlpConditioner
    >>> coupling = SplineCoupling(MlpConditioner(1, 23), bins=8)
    >>> x = torch.tensor([[0.3, -1.0], [0.3, 7.0]])
    >>> z, _ = coupling(x)
    >>> bool(((coupling.inverse(z)[0] - x).abs() < 1e-6).all())
    True
    """

    def __init__(
        self, conditioner: nn.Module, *, bins: int = 8, tail: float = 4.0, mask: Mask = "second", split: int | None = None
    ) -> None:
        super().__init__(conditioner, mask, split)
        self.bins, self.tail = bins, tail

    @staticmethod
    def identity(bins: int) -> Tensor:
        """The 3 bins - 1 parameters of the spline f(x) = x: equal bins, slopes 1. A conditioner may start with them as its last bias.

        >>> SplineCoupling.identity(2)
        tensor([0.0000, 0.0000, 0.0000, 0.0000, 0.5397])
        """
        raw = math.log(math.expm1(1.0 - LEAST_SLOPE))  # slope = LEAST_SLOPE + softplus(raw)
        return torch.cat((torch.zeros(2 * bins), torch.full((bins - 1,), raw)))

    def _coupled(self, x: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        return rq_spline_coupling(x, parameters, bins=self.bins, tail=self.tail, mask=self.mask, split=self.split, inverse=inverse)
