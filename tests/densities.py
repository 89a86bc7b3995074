"""The Parzen density by its definition, in long double, and arguments for its ops."""

from __future__ import annotations

import math

import numpy as np
import torch

F64 = torch.float64


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def oracle(queries, points, bandwidth, weights=None, own=None):
    """The definition, in long double; bandwidth a number or [D]; own: leave point i out of query i."""
    q, x = (t.double().numpy().astype(np.longdouble) for t in (queries, points))
    h = np.broadcast_to(np.asarray(bandwidth, dtype=np.float64), x.shape[1:]).astype(np.longdouble)
    w = np.ones(len(x), dtype=np.longdouble) if weights is None else weights.double().numpy().astype(np.longdouble)
    with np.errstate(divide="ignore"):
        log_w = np.log(w)
    out = []
    for i, y in enumerate(q):
        s = log_w - (((y - x) / h) ** 2).sum(1) / 2
        total = w.sum()
        if own:
            s[i], total = -np.inf, total - w[i]
        m = s.max()
        out.append(m + np.log(np.exp(s - m).sum()) - np.log(total))
    return np.array(out) - np.log(h).sum() - q.shape[1] * np.log(2 * np.longdouble(math.pi)) / 2


def excess(values, exact):
    """Error as a share of what the op promises."""
    wide = values.dtype == F64
    error = np.abs(values.numpy().astype(np.longdouble) - exact)
    return float((error / ((1e-11 if wide else 3e-5) + (1e-14 if wide else 2e-7) * np.abs(exact))).max())


def arguments(queries, points, log_weights=None, factor=None, own=None):
    """Of the ops."""
    dim = points.shape[1]
    log_weights = torch.zeros(len(points), dtype=F64) if log_weights is None else log_weights
    factor = torch.ones(dim, dtype=F64) if factor is None else factor
    centre = points.to(F64).mean(0) if len(points) else torch.zeros(dim, dtype=F64)
    return queries, points, log_weights, centre, factor, own is not None, own or 0


def cholesky(dim, seed=0):
    a = normal(dim, dim, seed=seed)
    return torch.linalg.cholesky(a @ a.mT / dim + 0.3 * torch.eye(dim, dtype=F64)).contiguous()
