from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator,
)

import keras_cae as cae
from keras_cae import __main__ as command_line
from keras_cae import data
from keras_cae.callbacks import PooledFeatureMaps
from keras_cae.datasets import digits
from keras_cae.datasets.labels import read_labels
from keras_cae.page import read_entries

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the data comes from TFDS"
)


@pytest.fixture
def look(digits_dir, tmp_path, capsys):
    """Runs the command on a model; returns its exit status and what it said."""

    def run(model, *options):
        path = model
        if isinstance(model, keras.Model):
            path = tmp_path / "model.keras"
            model.save(path)
        arguments = ["look", str(path), "--data-dir", str(digits_dir)]
        arguments += ["--log-dir", str(tmp_path / "run"), *options]
        status = command_line.main(arguments)
        return status, capsys.readouterr()

    return run


def tiny(**options):
    keras.utils.set_random_seed(0)
    return cae.autoencoder((28, 28, 1), filters=(2, 3), latent=4, **options)


def refused(look, tmp_path, model, *options):
    status, said = look(model, *options)
    assert status == 2
    (line,) = said.err.splitlines()
    assert not (tmp_path / "run").exists()
    return line


def test_autoencoder_is_shown_from_all_sides(look, tmp_path):
    status, said = look(tiny())
    assert status == 0
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "feature_maps",
        "reconstructions",
        "latent_space",
        "index.html",
    }
    assert str(folder / "index.html") in said.out
    assert f"--logdir {folder}" in said.out
    page = (folder / "index.html").read_text("utf-8")
    pictures = [
        entry
        for below in ("feature_maps", "reconstructions", "latent_space")
        for entry in read_entries(folder / below)
        if entry.kind == "images"
    ]
    assert page.count("<img ") == len(pictures) > 5
    names = (folder / "latent_space" / "metadata.tsv").read_text().splitlines()
    labels = [name.split("\t")[0] for name in names]
    assert labels[0] == "label"
    assert len(set(labels)) == 11


def test_events_are_those_of_the_callback(look, tmp_path, digits_dir):
    model = tiny()
    look(model)
    images = data.load("digits", "test", data_dir=digits_dir, shuffle_seed=None)
    callback = PooledFeatureMaps(tmp_path / "direct", images)
    model.compile("sgd", "mse")
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0)
    callback.on_train_end()
    expected = read_entries(tmp_path / "direct" / "feature_maps")
    found = read_entries(tmp_path / "run" / "feature_maps")
    assert [entry.tag for entry in found] == [entry.tag for entry in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.kind != "images" or one.value == other.value


def test_classifier_shows_its_poolings_alone(look, tmp_path):
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(2, 3, strides=2, name="strided")(image)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    status, _ = look(model)
    assert status == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "feature_maps",
        "index.html",
    }


def test_model_without_pooling_shows_its_reconstructions(look, tmp_path):
    image = keras.Input((None, None, 1))
    status, _ = look(keras.Model(image, layers.Conv2D(1, 3, padding="same")(image)))
    assert status == 0
    assert (tmp_path / "run" / "reconstructions").is_dir()
    assert not (tmp_path / "run" / "feature_maps").exists()


def test_looking_again_counts_on(look, tmp_path):
    for _ in range(2):
        assert look(tiny())[0] == 0
    folder = tmp_path / "run" / "reconstructions"
    events = EventAccumulator(str(folder))
    events.Reload()
    steps = [event.step for event in events.Tensors("reconstructions/psnr")]
    assert steps == [0, 1]


def test_images_are_resized_on_request(look, tmp_path):
    image = keras.Input((20, 16, 1))
    model = keras.Model(image, layers.MaxPooling2D()(image))
    line = refused(look, tmp_path, model)
    assert "--image-size 20 16" in line
    assert look(model, "--image-size", "20", "16")[0] == 0


@pytest.mark.parametrize(
    "shape", [(28, 28, 3), (28, 1), (4, 28, 28, 1), (10,)], ids=str
)
def test_model_of_another_shape_is_one_clear_line(look, tmp_path, shape):
    model = keras.Sequential([keras.Input(shape), layers.Activation("relu")])
    line = refused(look, tmp_path, model)
    assert "does not suit the data" in line
    assert str(shape) in line
    assert "(28, 28, 1)" in line


def test_model_of_two_inputs_is_one_clear_line(look, tmp_path):
    inputs = [keras.Input((28, 28, 1)), keras.Input((28, 28, 1))]
    line = refused(look, tmp_path, keras.Model(inputs, layers.Add()(inputs)))
    assert "takes 2 inputs" in line


def test_model_with_nothing_to_show_is_one_clear_line(look, tmp_path):
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(name="flat")])
    line = refused(look, tmp_path, model)
    assert "must have a layer that makes the grid smaller" in line
    assert "flat" in line


def test_code_in_a_model_is_refused(look, tmp_path):
    image = keras.Input((28, 28, 1))
    model = keras.Model(image, layers.Lambda(lambda x: x)(image))
    line = refused(look, tmp_path, model)
    assert "cannot be loaded" in line
    assert "Lambda" in line


def test_what_is_no_model_is_one_clear_line(look, tmp_path):
    assert "no model file" in refused(look, tmp_path, tmp_path / "none.keras")
    other = tmp_path / "model.h5"
    assert "must be a .keras file" in refused(look, tmp_path, other)
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"PK not a zip")
    assert "cannot be loaded" in refused(look, tmp_path, damaged)


def test_unknown_layer_is_one_clear_line(look, tmp_path):
    @keras.saving.register_keras_serializable(package="test_look")
    class Forgotten(keras.layers.Layer):
        def call(self, x):
            return x

    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((28, 28, 1)), Forgotten()]).save(path)
    keras.saving.get_custom_objects().pop("test_look>Forgotten")
    assert "Forgotten" in refused(look, tmp_path, path)


def test_bad_split_and_folder_are_one_clear_line(look, tmp_path):
    model = tiny()
    assert "`split` must be one of" in refused(look, tmp_path, model, "--split", "x")
    status, said = look(model, "--log-dir", __file__)
    assert status == 2
    assert "`log_dir` must be a folder" in said.err


def known_digits(split):
    """The label of each image, by its bytes."""
    with np.load(Path(digits.__file__).with_name("digits.npz")) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    pairs = zip(images, labels, strict=True)
    return {image.tobytes(): str(label) for image, label in pairs}


@pytest.mark.parametrize("split", ["test", "train"])
def test_labels_go_along_with_the_images(look, tmp_path, digits_dir, split):
    look(tiny(), "--split", split)
    folder = tmp_path / "run" / "latent_space"
    pixels = np.asarray(Image.open(folder / "sprite.png").convert("L"))
    tiles = pixels.reshape(16, 28, 16, 28).transpose(0, 2, 1, 3).reshape(256, 28, 28)
    known = known_digits(split)
    expected = [known[np.ascontiguousarray(tile).tobytes()] for tile in tiles]
    rows = (folder / "metadata.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == expected
    assert read_labels("digits", split, 256, digits_dir) == expected
