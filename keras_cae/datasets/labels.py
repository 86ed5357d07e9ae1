"""Reads the class names that go along with the images of a prepared data set."""

import os

from keras_cae.datasets.prepared import open_builder


def read_labels(
    name: str, split: str, count: int, data_dir: str | os.PathLike | None = None
) -> list[str] | None:
    """The names of the classes of the first `count` images, None if they have none.

    Args:
        name: The name of the data set, as for `keras_cae.data.load`.
        split: The split; its order is that of the files.
        count: How many labels to read at most.
        data_dir: The folder of all prepared data sets. None means TFDS' own.
    """
    import tensorflow_datasets as tfds

    builder = open_builder(name, data_dir)
    features = dict(builder.info.features.items())
    kind = tfds.features.ClassLabel
    found = [key for key, feature in features.items() if isinstance(feature, kind)]
    key = "label" if "label" in found else found[0] if len(found) == 1 else None
    if key is None:
        return None
    images = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
    examples = builder.as_dataset(
        split=split,
        decoders={image: tfds.decode.SkipDecoding() for image in images},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    numbers = [int(example[key]) for example in examples.take(count)]
    return [features[key].int2str(n) if n >= 0 else "" for n in numbers]
