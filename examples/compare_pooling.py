"""Every pooling with its partner: one table of trained autoencoders, one picture.

The same autoencoder, data and seed for every pair. The table tells the test error; the
parameters; the time of a step against that of the first pair, taken in turn; the shift
consistency of the reconstruction f for a shift S by one pixel, which is
`1 - |f(S x) - S f(x)|^2 / |f(x) - mean|^2`. By its partner, "max" hands the places of
all maxima past the 16 latent numbers, so it knows more.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

import keras_cae as cae
from keras_cae.layers.pairs import POOLINGS, pooling_named

PAIRS = [("max", "nearest"), ("max", "linear"), ("max", "subpixel")]
PAIRS += [(name, "partner") for name in sorted(POOLINGS)]


def train(pooling: str, unpooling: str, data, epochs: int, filters) -> cae.Autoencoder:
    """The same autoencoder for every pair."""
    keras.utils.set_random_seed(0)
    settings = {"filters": filters, "pooling": pooling, "unpooling": unpooling}
    model = cae.autoencoder((28, 28, 1), latent=16, **settings)
    model.compile("adam", "mse")
    model.fit(data, epochs=epochs, verbose=0)
    return model


def shift_consistency(model: keras.Model, images: np.ndarray) -> float:
    """1 where the reconstruction of a shifted image is the shifted reconstruction."""
    plain, moved = model.predict(images, verbose=0), np.roll(images, 1, axis=2)
    error = np.mean((model.predict(moved, verbose=0) - np.roll(plain, 1, axis=2)) ** 2)
    return float(1 - error / np.var(plain))


def step_times(models: list[keras.Model], batch) -> np.ndarray:
    """The median time of a training step, all models in turn."""
    times = np.zeros((15, len(models)))
    for at in np.ndindex(times.shape):
        start = time.perf_counter()
        models[at[1]].train_on_batch(*batch)
        times[at] = time.perf_counter() - start
    return np.median(times, axis=0)


def picture(image: np.ndarray, side: int = 112) -> Image.Image:
    """An image after each pooling, and below after its partner too."""
    sheet = Image.new("L", (len(POOLINGS) * (side + 4), 2 * side + 20), 255)
    for column, name in enumerate(sorted(POOLINGS)):
        asked = {"return_switches": True} if name == "max" else {}
        pooling = pooling_named(name, 2, **asked)
        pooled, *switches = keras.tree.flatten(pooling(image))
        given = {"switches": switches[0]} if switches else {}
        restored = cae.layers.partner_of(pooling)(pooled, like=image, **given)
        left = column * (side + 4)
        ImageDraw.Draw(sheet).text((left, 2), name)
        for row, x in enumerate((pooled, restored)):
            x = np.asarray(x)[0, ..., 0]
            pixels = Image.fromarray(np.uint8(255 * (x - x.min()) / np.ptp(x)))
            pixels = pixels.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(pixels, (left, 16 + row * (side + 4)))
    return sheet


def main(epochs: int = 3, out: str = "runs/compare", filters=(16, 32), pairs=PAIRS):
    """Trains all pairs, writes table.md and pooling.png, returns the table's rows."""
    data, test = cae.data.load(batch_size=64), cae.data.load("digits", "test")
    images = np.concatenate([x for x, _ in test.as_numpy_iterator()])
    models = [train(*pair, data, epochs, filters) for pair in pairs]
    found = [
        (m.evaluate(test, verbose=0), shift_consistency(m, images)) for m in models
    ]
    times = step_times(models, (images[:64], images[:64]))
    rows = [
        "| pooling | unpooling | test error | parameters | step | shift |",
        "|---" * 6 + "|",
    ]
    for pair, model, (error, shift), step in zip(
        pairs, models, found, times, strict=True
    ):
        row = (*pair, f"{error:.4f}", f"{model.count_params():,}")
        rows.append(f"| {' | '.join(row)} | {step / times[0]:.2f} | {shift:.3f} |")
    Path(out).mkdir(parents=True, exist_ok=True)
    Path(out, "table.md").write_text("\n".join(rows) + "\n")
    picture(images[:1]).save(Path(out, "pooling.png"))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", default="runs/compare")
    print(*main(**vars(parser.parse_args())), sep="\n")
