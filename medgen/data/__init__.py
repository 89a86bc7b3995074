"""Data in and out: volumes, images, signals and tables, in stored units on disk and model units in batches."""

from medgen.data.arrays import from_arrays
from medgen.data.config import DataConfig
from medgen.data.dataset import Dataset
from medgen.data.intensity import to_model, to_stored
from medgen.data.like import open_like, open_source, save_like
from medgen.data.mask import Mask, open_mask
from medgen.data.open import open_data
from medgen.data.writers import Format, save_samples

__all__ = [
    "DataConfig",
    "Dataset",
    "Format",
    "Mask",
    "from_arrays",
    "open_data",
    "open_like",
    "open_mask",
    "open_source",
    "save_like",
    "save_samples",
    "to_model",
    "to_stored",
]
