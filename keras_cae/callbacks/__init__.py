"""Keras callbacks that show what a model does with its images."""

from keras_cae.callbacks.feature_maps import PooledFeatureMaps

__all__ = ["PooledFeatureMaps"]
