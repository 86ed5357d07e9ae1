"""What somebody without this package writes for the same numbers."""

import keras
import tensorflow as tf
from keras import layers

NAME = "plain Keras / TensorFlow"


def upsampled(filters: int, interpolation: str) -> keras.Layer:
    """Up-sampling by 2, then a convolution."""
    conv = layers.Conv2D(filters, 3, padding="same")
    return keras.Sequential([layers.UpSampling2D(2, interpolation=interpolation), conv])


def encoded(filters: int) -> keras.Layer:
    """A convolution with its activation, then max pooling."""
    conv = layers.Conv2D(filters, 3, padding="same", activation="relu")
    return keras.Sequential([conv, layers.MaxPooling2D(2, padding="same")])


def subpixel(filters: int) -> keras.Layer:
    """A convolution to four times the channels, moved into space."""
    conv = layers.Conv2D(4 * filters, 3, padding="same")
    return keras.Sequential([conv, layers.Lambda(depth_to_space)])


def switches(x):
    """Max pooling and its inverse, by the places of the maxima."""
    pooled, places = tf.nn.max_pool_with_argmax(
        x, 2, 2, "SAME", include_batch_in_index=True
    )
    size = tf.size(x, out_type=tf.int64)[None]
    flat = tf.scatter_nd(tf.reshape(places, (-1, 1)), tf.reshape(pooled, [-1]), size)
    return tf.reshape(flat, tf.shape(x))


def average(x):
    """Average pooling and its adjoint."""
    pooled = tf.nn.avg_pool2d(x, 2, 2, "SAME")
    return layers.UpSampling2D(2)(pooled / 4)


def haar(x):
    """Sums and differences of the four cells of each window."""
    a, b = x[:, ::2, ::2], x[:, ::2, 1::2]
    c, d = x[:, 1::2, ::2], x[:, 1::2, 1::2]
    bands = [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
    return tf.concat(bands, axis=-1) / 2


def haar_inverse(x):
    """The four cells of each window from their sums and differences."""
    a, b, c, d = tf.split(x / 2, 4, axis=-1)
    cells = [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
    return tf.nn.depth_to_space(tf.concat(cells, axis=-1), 2)


def space_to_depth(x):
    """TensorFlow's operation."""
    return tf.nn.space_to_depth(x, 2)


def depth_to_space(x):
    """TensorFlow's operation."""
    return tf.nn.depth_to_space(x, 2)


def blur(x):
    """A depthwise convolution with the binomial filter, on a mirrored border."""
    x = tf.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), "REFLECT")
    line = tf.constant([0.25, 0.5, 0.25])
    kernel = tf.tile((line[:, None] * line)[..., None, None], (1, 1, x.shape[-1], 1))
    return tf.nn.depthwise_conv2d(x, kernel, (1, 2, 2, 1), "VALID")


def max_blur(x):
    """The maximum around every cell, then the blur."""
    return blur(tf.nn.max_pool2d(x, 2, 1, "SAME"))


def lp(x):
    """The root of the sum of squares of each window."""
    return tf.sqrt(4 * tf.nn.avg_pool2d(x * x, 2, 2, "SAME"))


def soft(x):
    """The mean of each window, weighted by its softmax."""
    weights = tf.exp(x)
    pooled = tf.nn.avg_pool2d(x * weights, 2, 2, "SAME")
    return pooled / tf.nn.avg_pool2d(weights, 2, 2, "SAME")
