"""Euclidean distances between sets of features, in blocks: memory grows with N + M, not with N * M."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from medgen.errors import DataError

__all__ = ["blocks", "check_features", "nearest", "radii", "squared_distances"]

_ENTRIES = 2**23  # float64 entries of one block: 64 MiB


def check_features(real: Tensor, fake: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets in float64, if they are finite matrices with the same number of columns and at least `least` rows.

    Raises:
        DataError: naming the set.
    """
    for name, value in (("real", real), ("fake", fake)):
        if value.dim() != 2:
            raise DataError(f"features `{name}` must be a matrix [N, F]; got shape {tuple(value.shape)}.")
        if len(value) < least:
            raise DataError(f"features `{name}` must have at least {least} rows for this metric; got {len(value)}. Use more samples.")
        if not bool(value.isfinite().all()):
            raise DataError(f"features `{name}` must be finite; got NaN or infinity in {int((~value.isfinite()).any(1).sum())} rows.")
    if real.shape[1] != fake.shape[1]:
        raise DataError(f"features `real` and `fake` must have the same number of columns; got {real.shape[1]} and {fake.shape[1]}.")
    return real.double(), fake.double()


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of `rows` such that a block [slice, columns] of float64 takes at most 64 MiB."""
    step = max(1, _ENTRIES // max(1, columns))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of float64 features, [N, M]; at most 1e-14 of the squared norms is an exact copy and counts as 0."""
    norms = x.pow(2).sum(1)[:, None] + y.pow(2).sum(1)
    squares = torch.addmm(norms, x, y.T, alpha=-2.0)
    return squares.masked_fill_(squares <= 1e-14 * norms, 0.0)


def nearest(real: Tensor, fake: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest real samples of each generated one.

    Args:
        real: features or flattened images [N, F].
        fake: the same of the generated samples [M, F].
        k: neighbours, at most N.

    Returns:
        distances, float64 [M, k] in increasing order, and the rows of `real`, int64 [M, k].

    Raises:
        DataError: shapes that differ, values that are not finite, or k > N.

    >>> real = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> distance, row = nearest(real, torch.tensor([[3.0, 0.0]]), k=2)
    >>> distance.tolist(), row.tolist()
    ([[3.0, 4.0]], [[0, 1]])
    """
    real, fake = check_features(real, fake)
    if not 1 <= k <= len(real):
        raise DataError(f"`k` must be in 1..{len(real)}, the number of real samples; got {k}.")
    parts = [squared_distances(fake[rows], real).topk(k, dim=1, largest=False) for rows in blocks(len(fake), len(real))]
    if not parts:
        return torch.empty(0, k, dtype=torch.float64), torch.empty(0, k, dtype=torch.int64)
    return torch.cat([p.values for p in parts]).sqrt(), torch.cat([p.indices for p in parts])


def radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each sample to its k-th nearest other sample, float64 [N]. Needs k < N."""
    parts = []
    for rows in blocks(len(x), len(x)):
        squares = squared_distances(x[rows], x)
        own = torch.arange(rows.start, rows.stop, device=x.device)
        squares[own - rows.start, own] = torch.inf
        parts.append(squares.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(parts)
