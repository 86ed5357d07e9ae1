"""A conformance kit for layers: ours, Keras' and your own.

`check_layer` holds a layer to what Keras and those who build on it rely on;
`check_pair` holds a pooling and its unpooling to the laws that they declare.
"""

from keras_cae.testing.layer import check_layer
from keras_cae.testing.pair import check_pair

__all__ = ["check_layer", "check_pair"]
