"""Layers that shrink a grid, and their partners that grow it back."""

from keras_cae.layers.average import AveragePooling, AverageUnpooling
from keras_cae.layers.blur import BlurPooling, BlurUnpooling, MaxBlurPooling
from keras_cae.layers.haar import HaarPooling, HaarUnpooling
from keras_cae.layers.max import MaxPooling, MaxUnpooling
from keras_cae.layers.mixed import GatedPooling, MixedPooling
from keras_cae.layers.pairs import partner_of
from keras_cae.layers.rearrange import DepthToSpace, SpaceToDepth
from keras_cae.layers.resize import Upsampling
from keras_cae.layers.stochastic import StochasticPooling
from keras_cae.layers.strided import StridedConv, TransposedConv
from keras_cae.layers.subpixel import SubpixelConv
from keras_cae.layers.upsampling_conv import UpsamplingConv
from keras_cae.layers.weighted import LpPooling, SoftPooling

__all__ = [
    "AveragePooling",
    "AverageUnpooling",
    "BlurPooling",
    "BlurUnpooling",
    "DepthToSpace",
    "GatedPooling",
    "HaarPooling",
    "HaarUnpooling",
    "LpPooling",
    "MaxBlurPooling",
    "MaxPooling",
    "MaxUnpooling",
    "MixedPooling",
    "SoftPooling",
    "SpaceToDepth",
    "StochasticPooling",
    "StridedConv",
    "SubpixelConv",
    "TransposedConv",
    "Upsampling",
    "UpsamplingConv",
    "partner_of",
]
