"""A denoising autoencoder: noisy digits in, clean ones out.

    python examples/denoise_digits.py [--epochs 10] [--picture FILE]

It is fully convolutional and keeps sizes unknown, so that after training on 28 x 28 it
cleans images of any size.
"""

import argparse

import keras
import numpy as np

import keras_cae as cae


def main(epochs: int = 10, picture: str = "denoised.png", filters=(32, 32)) -> float:
    """Trains, draws, and returns how many times smaller the error became."""
    train = cae.data.load("digits", "train", corrupt=0.4)
    test = cae.data.load("digits", "test", corrupt=0.4)

    # "partner": max pooling hands its switches on, which keeps strokes sharp.
    model = cae.autoencoder((None, None, 1), filters=filters, unpooling="partner")
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    model.fit(train, validation_data=test, epochs=epochs)

    noisy, clean = (np.asarray(x)[:10] for x in next(iter(test)))
    rows = [np.hstack(x) for x in (noisy, model.predict(noisy), clean)]
    keras.utils.save_img(picture, np.vstack(rows))
    print("Noisy, cleaned and true digits:", picture)

    wide = np.hstack(noisy)[None]  # ten digits in a row: 28 x 280
    print("One image of another size:", model.predict(wide).shape)
    before = np.mean([np.mean((x - y) ** 2) for x, y in test])
    return float(before / model.evaluate(test, verbose=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--picture", default="denoised.png")
    ratio = main(**vars(parser.parse_args()))
    print(f"The noisy digits' error is {ratio:.1f} times that of the cleaned ones.")
