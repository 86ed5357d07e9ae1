"""Train an autoencoder on handwritten digits, look into it, ship it.

    python examples/train_digits.py [--epochs 10] [--out FOLDER]

Afterwards `tensorboard --logdir FOLDER/logs` shows what every pooling kept.
"""

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf

import keras_cae as cae


def main(epochs: int = 10, out: str = "runs/example", filters=(32, 64)) -> float:
    """Trains, exports, and returns the mean squared error on the test images."""
    out = Path(out)
    train = cae.data.load("digits", "train", batch_size=64)
    test = cae.data.load("digits", "test", batch_size=64)

    model = cae.autoencoder((28, 28, 1), filters=filters, latent=16, norm="batch")
    model.compile("adamw", "mse")
    maps = cae.callbacks.PooledFeatureMaps(out / "logs", test)
    model.fit(train, validation_data=test, epochs=epochs, callbacks=[maps])

    # Encoder and decoder are ordinary Keras models of the same weights.
    latents = model.encoder.predict(test)
    images = model.decoder.predict(latents)
    print("Latents", latents.shape, "and their images", images.shape)

    # A SavedModel that TensorFlow loads without this package.
    path = cae.export.next_version(out / "savedmodels")
    model.export(path)
    served = tf.saved_model.load(str(path))
    batch = next(iter(test))[0]
    answer = served.encode(image=batch)["latent"]
    print("Served from", path, "with a difference of at most", end=" ")
    print(np.abs(answer - latents[: len(batch)]).max())
    return model.evaluate(test, verbose=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", default="runs/example")
    print(f"Test error {main(**vars(parser.parse_args())):.5f}")
