"""A classifier of encoder blocks, inside an ordinary Sequential model.

    python examples/classify_digits.py [--epochs 5]

The blocks are Keras layers: they mix with any others, and any layer can pool in them.
"""

import argparse

import keras
import numpy as np
import tensorflow_datasets as tfds

import keras_cae as cae
from keras_cae.datasets import digits  # noqa: F401  tells TFDS of them


def main(epochs: int = 5, images: int = 6000) -> float:
    """Trains on so many images and returns the accuracy on the test images."""
    whole = {"batch_size": -1, "as_supervised": True}
    x, y = tfds.load("digits", split="train", **whole)
    x_test, y_test = tfds.load("digits", split="test", **whole)

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            cae.EncoderBlock(16, convs=2, norm="batch"),
            cae.EncoderBlock(32, pooling="average", residual=True),
            cae.EncoderBlock(64, pooling=keras.layers.MaxPooling2D(2), dropout=0.1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )
    model.summary(expand_nested=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x[:images], y[:images], validation_data=(x_test, y_test), epochs=epochs)

    predicted = np.argmax(model.predict(x_test), axis=-1)
    return float(np.mean(predicted == y_test))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    print(f"Accuracy on the test images: {main(**vars(parser.parse_args())):.3f}")
