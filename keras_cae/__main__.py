"""The command line: `python -m keras_cae train`, or `keras-cae look MODEL.keras`."""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_cae import _checks, data
from keras_cae._files import whole
from keras_cae.callbacks import (
    LatentSpace,
    PooledFeatureMaps,
    Reconstructions,
    panels,
)
from keras_cae.callbacks.quality import psnr
from keras_cae.callbacks.summaries import writable_folder
from keras_cae.datasets.labels import read_labels
from keras_cae.export import next_version
from keras_cae.layers.pairs import POOLINGS, UNPOOLINGS
from keras_cae.look import look
from keras_cae.models import Autoencoder, autoencoder

SAMPLES = 12  # in the picture
LATENTS = 256  # in the projector


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"keras-cae: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkeras-cae: interrupted; nothing was exported.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-cae", description="Convolutional autoencoders on Keras 3."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train an autoencoder, look into it, export it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add("--data", default="digits", help="digits, or a data set of TFDS")
    add("--data-dir", help="folder of prepared TFDS data; None means TFDS' own")
    add("--epochs", type=int, default=20, help="how often to see all images")
    add("--filters", type=int, nargs="+", default=[32, 64], help="one a block")
    add("--latent", type=int, default=16, help="numbers a latent; 0 keeps the maps")
    add("--pooling", default="max", choices=sorted(POOLINGS))
    add("--unpooling", default="nearest", choices=sorted({*UNPOOLINGS, "partner"}))
    add("--batch-size", type=int, default=64, help="images a step")
    add("--log-dir", help="for TensorBoard; None means runs/<data>/<version>")
    add("--export", default="savedmodels", help="folder of <data>/<version>")
    add("--seed", type=int, default=0, help="of weights, order and noise")
    look_ = commands.add_parser(
        "look",
        help="look into a saved model, without training it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    look_.set_defaults(run=_look)
    add = look_.add_argument
    add("model", metavar="MODEL.keras", help="a model that Keras saved")
    add("--data", default="digits", help="digits, or a data set of TFDS")
    add("--data-dir", help="folder of prepared TFDS data; None means TFDS' own")
    add("--split", default="test", help="of the data set")
    add("--image-size", type=int, nargs=2, help="height and width, to resize images")
    add("--log-dir", default="runs/look", help="for TensorBoard and the page")
    return parser


def _look(options: argparse.Namespace) -> None:
    page = look(
        options.model,
        options.data,
        options.log_dir,
        split=options.split,
        data_dir=options.data_dir,
        image_size=options.image_size,
    )
    print(f"\nPage         {page}")
    print(f"TensorBoard  {_tensorboard()} --logdir {options.log_dir}")


def _train(options: argparse.Namespace) -> None:
    for name in ("epochs", "batch_size"):
        _checks.positive_int(name, getattr(options, name))
    name = re.sub(r"\W+", "_", options.data)
    exports, runs = Path(options.export) / name, Path("runs") / name
    version = max(next_version(exports), next_version(runs), key=_number).name
    log_dir = Path(options.log_dir) if options.log_dir else runs / version
    writable_folder("export", exports)  # not found out after the training
    writable_folder("log_dir", log_dir).mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(options.seed)
    settings = {
        "batch_size": options.batch_size,
        "shuffle_seed": options.seed,
        "data_dir": options.data_dir,
    }
    train = data.load(options.data, "train", **settings)
    test = data.load(options.data, "test", **settings)
    model = _compiled(options, train)
    model.summary()
    labels = read_labels(options.data, "test", LATENTS, options.data_dir)
    callbacks = [
        keras.callbacks.TensorBoard(log_dir, write_graph=False),
        PooledFeatureMaps(log_dir, test),
        Reconstructions(log_dir, test),
        LatentSpace(log_dir, test, labels, max_samples=LATENTS),
    ]
    model.fit(
        train,
        validation_data=test,
        epochs=options.epochs,
        callbacks=callbacks,
        shuffle=False,  # the data does it
    )
    error = model.evaluate(test, verbose=0)
    picture = log_dir / "reconstructions.png"
    _draw(model, test, picture)
    kept = log_dir / "model.keras"
    with whole(kept) as written:
        model.save(written)
    path = exports / version
    model.export(path)
    print(f"\nTest error   {error:.5f} (mean squared error)")
    print(f"Picture      {picture}")
    print(f"Keras model  {kept}")
    print(f"SavedModel   {path}")
    command = f"{_tensorboard()} --logdir {log_dir} --samples_per_plugin images=1000"
    print(f"TensorBoard  {command}")


def _tensorboard() -> str:
    """The command that starts TensorBoard, from here."""
    beside = Path(sys.executable).with_name("tensorboard")
    if shutil.which("tensorboard") or not beside.exists():
        return "tensorboard"
    return os.path.relpath(beside)


def _number(folder: Path) -> int:
    return int(folder.name)


def _compiled(options: argparse.Namespace, train: Any) -> Autoencoder:
    """The model and its optimizer, whose learning rate falls to 0 on a cosine."""
    model = autoencoder(
        train.element_spec[0].shape[1:].as_list(),
        filters=options.filters,
        latent=options.latent or None,
        pooling=options.pooling,
        unpooling=options.unpooling,
        data_format="channels_last",
    )
    steps = options.epochs * int(train.cardinality())
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.1), "mse")
    return model


def _draw(model: Autoencoder, test: Any, path: Path) -> None:
    """Inputs above their reconstructions and signal-to-noise ratios, as a PNG."""
    from PIL import Image

    images = np.asarray(next(iter(test))[0])[:SAMPLES]
    outputs = model.predict_on_batch(images)
    size = panels.panel_size(images.shape[1:-1])
    rows = {
        name: [
            panels.panel(image, size)
            for image in panels.as_images(samples, 0, 1, panels.greys)
        ]
        for name, samples in (("input", images), ("reconstruction", outputs))
    }
    heads = [(f"{decibels:.1f} dB",) for decibels in psnr(images, outputs, peak=1)]
    picture = panels.table(rows, heads)
    with whole(path) as written:
        Image.fromarray(picture).save(written, "PNG")


if __name__ == "__main__":
    sys.exit(main())
