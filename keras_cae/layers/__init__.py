"""Layers that shrink a grid, and their partners that grow it back."""

from keras_cae.layers.average import AveragePooling, AverageUnpooling
from keras_cae.layers.max import MaxPooling, MaxUnpooling
from keras_cae.layers.resize import Upsampling
from keras_cae.layers.strided import StridedConv, TransposedConv

__all__ = [
    "AveragePooling",
    "AverageUnpooling",
    "MaxPooling",
    "MaxUnpooling",
    "StridedConv",
    "TransposedConv",
    "Upsampling",
]
