"""Building blocks that families share."""

from medgen.nn.conditioning import ConditionEmbedding
from medgen.nn.ema import EMA
from medgen.nn.encoder import Decoder, Encoder, level_shapes
from medgen.nn.layers import ResidualBlock, Resize, conv, group_norm

__all__ = ["EMA", "ConditionEmbedding", "Decoder", "Encoder", "ResidualBlock", "Resize", "conv", "group_norm", "level_shapes"]
