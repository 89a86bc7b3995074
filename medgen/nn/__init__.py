"""Building blocks that families share."""

from medgen.nn.attention import SelfAttention
from medgen.nn.conditioning import ConditionEmbedding, ConditionImages
from medgen.nn.ema import EMA
from medgen.nn.encoder import Decoder, Encoder, level_shapes
from medgen.nn.film import FilmBlock, TimeEmbedding, sinusoids
from medgen.nn.inference import InferenceNet, fast_bfloat16
from medgen.nn.layers import ResidualBlock, Resize, conv, group_norm
from medgen.nn.memory import PeakMemory, forward_bytes
from medgen.nn.parzen import BandwidthRule, Parzen
from medgen.nn.unet import ResidualMLP, UNet, time_net
from medgen.nn.units import Units

__all__ = [
    "EMA",
    "BandwidthRule",
    "ConditionEmbedding",
    "ConditionImages",
    "Decoder",
    "Encoder",
    "FilmBlock",
    "InferenceNet",
    "Parzen",
    "PeakMemory",
    "ResidualBlock",
    "ResidualMLP",
    "Resize",
    "SelfAttention",
    "TimeEmbedding",
    "UNet",
    "Units",
    "conv",
    "fast_bfloat16",
    "forward_bytes",
    "group_norm",
    "level_shapes",
    "sinusoids",
    "time_net",
]
