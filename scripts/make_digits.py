"""Draws the digits embedded in the package from MNIST.

    python scripts/make_digits.py [--data-dir FOLDER] [--output FILE]

For each class 600 images come from MNIST's train split and 100 from its test split, by
a fixed seed. The same draw from the same MNIST gives the same file.
"""

import argparse
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

IMAGES_PER_CLASS = {"train": 600, "test": 100}
OUTPUT = Path(__file__).parents[1] / "keras_cae" / "datasets" / "digits" / "digits.npz"


def equal_classes(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Returns the sorted positions of `per_class` random examples of every class."""
    order = np.random.RandomState(0).permutation(len(labels))  # frozen by NumPy's rules
    picked = [order[labels[order] == c][:per_class] for c in range(10)]
    return np.sort(np.concatenate(picked))


def draw(data_dir: str | Path | None = None) -> dict[str, np.ndarray]:
    """Returns the images and labels of both splits, in the order of MNIST."""
    arrays = {}
    for split, per_class in IMAGES_PER_CLASS.items():
        mnist = tfds.load("mnist:3.0.1", split=split, data_dir=data_dir, batch_size=-1)
        labels = mnist["label"].numpy().astype("uint8")
        picked = equal_classes(labels, per_class)
        arrays[f"{split}_images"] = mnist["image"].numpy()[picked]
        arrays[f"{split}_labels"] = labels[picked]
    return arrays


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="where TFDS keeps MNIST (default: its own)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    np.savez_compressed(options.output, **draw(options.data_dir))
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
