"""Label volumes from files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.data import open_data
from medgen.errors import DataError

__all__ = ["read_label_volume"]


def read_label_volume(path: str | os.PathLike[str]) -> tuple[NDArray[Any], tuple[float, ...]]:
    """A label volume [X, Y, Z] as it is stored, and the size of its voxels in mm, from its header.

    Raises:
        DataError: not one volume of whole numbers, or a file without voxel size.
    """
    data = open_data(path, content="labels")
    spec = data.image_spec
    if spec.dim != 3 or len(data) != 1:
        raise DataError(f"{path}: must be one 3-D label volume; got {len(data)} samples of shape {spec.shape}.")
    if spec.spacing is None:
        raise DataError(f"{path}: must say the size of its voxels, as NIfTI does; this file does not.")
    return data.stored(np.array([0]))[0, 0], spec.spacing
