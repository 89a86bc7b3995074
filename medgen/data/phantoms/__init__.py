"""Phantoms: seeded data whose answers are known. `datasets` makes them into datasets; the other modules are pure functions over NumPy."""

from medgen.data.phantoms.cardiac import CardiacShape, cardiac_image, cardiac_label_map, draw_cardiac
from medgen.data.phantoms.cycle import CardiacCycle, draw_cycle
from medgen.data.phantoms.head import TISSUES, Head, draw_head, tissue_shares
from medgen.data.phantoms.heartbeat import Heartbeat, draw_heartbeat, heartbeat_signal, noiseless_heartbeat
from medgen.data.phantoms.lesions import CONTRASTS, lesion_contrasts, lesion_ratio, lesion_regions, myelin_map
from medgen.data.phantoms.mr_ct import head_mask, hu_to_mr, mr_ct_pair, mr_to_hu
from medgen.data.phantoms.skull import Skull, draw_skull, skull_volume, three_planes
from medgen.data.phantoms.toys import Banana, GaussianMixture, ToyDensity, TwoMoons, eight_gaussians, twenty_five_gaussians

__all__ = [
    "CONTRASTS",
    "TISSUES",
    "Banana",
    "CardiacCycle",
    "CardiacShape",
    "GaussianMixture",
    "Head",
    "Heartbeat",
    "Skull",
    "ToyDensity",
    "TwoMoons",
    "cardiac_image",
    "cardiac_label_map",
    "draw_cardiac",
    "draw_cycle",
    "draw_head",
    "draw_heartbeat",
    "draw_skull",
    "eight_gaussians",
    "head_mask",
    "heartbeat_signal",
    "hu_to_mr",
    "lesion_contrasts",
    "lesion_ratio",
    "lesion_regions",
    "mr_ct_pair",
    "mr_to_hu",
    "myelin_map",
    "noiseless_heartbeat",
    "skull_volume",
    "three_planes",
    "tissue_shares",
    "twenty_five_gaussians",
]
