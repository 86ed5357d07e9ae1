"""Keras callbacks that show what a model does with its images."""

from keras_cae.callbacks.feature_maps import PooledFeatureMaps
from keras_cae.callbacks.latent_space import LatentSpace
from keras_cae.callbacks.reconstructions import Reconstructions

__all__ = ["LatentSpace", "PooledFeatureMaps", "Reconstructions"]
