import io
import logging

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_cae.callbacks import Reconstructions, panels
from keras_cae.callbacks.quality import psnr, ssim
from keras_cae.page import read_entries

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(size=(12, 9, 16, 1)).astype("float32")


def scaling(factor=0.5, shape=(9, 16, 1), **options):
    """A model that returns a share of its input."""
    image = keras.Input(shape)
    model = keras.Model(image, layers.Rescaling(factor)(image))
    model.compile("sgd", "mse", **options)
    return model


def log_once(callback, model):
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0)
    callback.on_train_end()
    entries = read_entries(callback._folder)
    return {entry.tag.removeprefix("reconstructions/"): entry for entry in entries}


def pixels(entry):
    return np.asarray(Image.open(io.BytesIO(entry.value)).convert("RGB"))


def test_figures_are_those_of_a_direct_forward_pass(tmp_path):
    entries = log_once(Reconstructions(tmp_path, IMAGES), scaling())
    expected = psnr(IMAGES, IMAGES / 2, 1.0).mean()
    np.testing.assert_allclose(entries["psnr"].value, expected, rtol=1e-5)
    expected = ssim(IMAGES, IMAGES / 2, 1.0).mean()
    np.testing.assert_allclose(entries["ssim"].value, expected, rtol=1e-5)


def test_pictures_follow_the_training(tmp_path):
    image = keras.Input((9, 16, 1))
    model = keras.Model(image, layers.Conv2D(1, 3, padding="same")(image))
    model.compile("adam", "mse")
    model.fit(
        IMAGES,
        IMAGES,
        epochs=3,
        verbose=0,
        callbacks=[Reconstructions(tmp_path, IMAGES)],
    )
    entries = {entry.tag: entry for entry in read_entries(tmp_path / "reconstructions")}
    outputs = model.predict(IMAGES, verbose=0)
    expected = psnr(IMAGES, outputs, 1.0).mean()
    np.testing.assert_allclose(entries["reconstructions/psnr"].value, expected, 1e-4)


def test_worst_and_typical_samples_are_named_by_their_index(tmp_path, monkeypatch):
    # The error of a sample grows with its factor: 10 is the worst, then 2.
    factors = np.full(12, 0.5)
    factors[[10, 2, 4, 7]] = 1, 0.9, 0.1, 0.2
    inputs = np.ones((12, 9, 16, 1)) * factors[:, None, None, None]
    heads = []
    table = panels.table
    monkeypatch.setattr(
        panels, "table", lambda rows, names: heads.append(names) or table(rows, names)
    )
    log_once(Reconstructions(tmp_path, inputs, max_shown=2), scaling())
    (worst, typical) = heads
    assert [lines[0] for lines in worst] == ["#10", "#2"]
    assert {lines[0] for lines in typical} <= {
        f"#{n}" for n in (0, 1, 3, 5, 6, 8, 9, 11)
    }
    assert worst[0][1] == f"{-20 * np.log10(0.5):.1f} dB"


def shown(picture, row, column, size):
    """The panel in a row and a column of a picture without names of rows."""
    left = 6 * len("reconstruction") + 4 + column * (size[1] + 4)
    top = 2 * (11 + 4) + row * (size[0] + 4)
    return picture[top : top + size[0], left : left + size[1]]


def test_picture_shows_input_reconstruction_and_error_on_one_scale(tmp_path):
    entries = log_once(Reconstructions(tmp_path, IMAGES[:1]), scaling(0.25))
    picture, size = pixels(entries["worst"]), panels.panel_size((9, 16))
    assert size == (63, 112)
    for row, factor in enumerate((1, 0.25, 0.75)):
        (image,) = panels.as_images(factor * IMAGES[:1], 0, 1)
        expected = panels.panel(image, size).astype(int)
        assert np.abs(shown(picture, row, 0, size) - expected).max() <= 3


def test_errors_have_their_own_scale_where_values_begin_elsewhere(tmp_path):
    inputs = 4 * IMAGES[:1] - 2
    inputs[0, 0, :2, 0] = -2, 2
    entries = log_once(Reconstructions(tmp_path, inputs), scaling())
    picture, size = pixels(entries["worst"]), panels.panel_size((9, 16))
    for row, values, low, high in (
        (0, inputs, -2, 2),
        (1, inputs / 2, -2, 2),
        (2, np.abs(inputs) / 2, 0, 4),
    ):
        (image,) = panels.as_images(values, low, high)
        expected = panels.panel(image, size).astype(int)
        assert np.abs(shown(picture, row, 0, size) - expected).max() <= 3


def test_targets_of_a_data_set_are_what_is_compared_to(tmp_path):
    noisy = np.clip(IMAGES + RANDOM.normal(scale=0.3, size=IMAGES.shape), 0, 1)
    batches = iter([(noisy[:8], IMAGES[:8]), (noisy[8:], IMAGES[8:])])
    entries = log_once(Reconstructions(tmp_path, batches, max_samples=10), scaling(1.0))
    expected = psnr(IMAGES[:10], noisy[:10], 1.0).mean()
    np.testing.assert_allclose(entries["psnr"].value, expected, rtol=1e-5)
    plain = log_once(Reconstructions(tmp_path / "plain", IMAGES), scaling())
    rows = panels.panel_size((9, 16))[0] + 4
    assert len(pixels(entries["worst"])) == len(pixels(plain["worst"])) + rows


def test_targets_that_are_labels_are_not_compared_to(tmp_path):
    batches = iter([(IMAGES, np.arange(12))])
    entries = log_once(Reconstructions(tmp_path, batches), scaling())
    expected = psnr(IMAGES, IMAGES / 2, 1.0).mean()
    np.testing.assert_allclose(entries["psnr"].value, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "shape", [(20,), (1,), (20, 2), (6, 7, 3), (1, 1, 1), (4, 5, 6, 1)], ids=str
)
def test_vectors_sequences_colours_and_volumes_have_pictures(tmp_path, shape):
    inputs = RANDOM.uniform(-3, 5, size=(5, *shape))
    entries = log_once(Reconstructions(tmp_path, inputs), scaling(shape=shape))
    assert ("ssim" in entries) == (shape == (6, 7, 3))
    assert pixels(entries["worst"]).shape[-1] == 3


def test_images_of_three_channels_keep_their_colours(tmp_path):
    inputs = RANDOM.uniform(size=(1, 14, 14, 3))
    entries = log_once(
        Reconstructions(tmp_path, inputs), scaling(1.0, shape=(14, 14, 3))
    )
    expected = np.round(255 * np.kron(inputs[0], np.ones((8, 8, 1))))
    found = shown(pixels(entries["typical"]), 0, 0, (112, 112)).astype(int)
    assert np.abs(found - expected).max() <= 1


def test_channels_first_is_read_from_the_model(tmp_path):
    image = keras.Input((1, 9, 16))
    model = keras.Model(
        image, layers.ZeroPadding2D(0, data_format="channels_first")(image)
    )
    entries = log_once(Reconstructions(tmp_path, np.moveaxis(IMAGES, -1, 1)), model)
    last = log_once(Reconstructions(tmp_path / "last", IMAGES), scaling(1.0))
    np.testing.assert_array_equal(pixels(entries["worst"]), pixels(last["worst"]))


@pytest.mark.parametrize(
    ("outputs", "way"),
    [
        (lambda x: 0 * x, "all samples give one output"),
        (lambda x: 0 * x + IMAGES[0], "all samples give one output"),
        (lambda x: 0 * x + x[:, :1, :1], "without contrast"),
        (lambda x: x * np.nan, "not finite"),
    ],
    ids=["constant", "one image", "flat", "nan"],
)
def test_collapse_is_warned_of_once(tmp_path, caplog, outputs, way):
    class Collapsed(keras.Model):
        def call(self, x):
            return outputs(x)

    model, callback = Collapsed(), Reconstructions(tmp_path, IMAGES)
    callback.set_model(model)
    with caplog.at_level(logging.WARNING):
        callback.on_train_begin()
        for epoch in range(3):
            callback.on_epoch_begin(epoch)
            callback.on_epoch_end(epoch)
    callback.on_train_end()
    (record,) = caplog.records
    assert way in record.getMessage()


def test_what_varies_is_no_collapse(tmp_path, caplog):
    log_once(Reconstructions(tmp_path, IMAGES), scaling(0.2))
    constant = np.ones((3, 9, 16, 1))
    log_once(Reconstructions(tmp_path / "constant", constant), scaling())
    assert not caplog.records


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_the_worst_and_has_a_picture(tmp_path, value):
    inputs = IMAGES.copy()
    inputs[5, 2, 3] = value
    entries = log_once(Reconstructions(tmp_path, inputs), scaling())
    assert not np.isfinite(entries["psnr"].value)
    assert entries["worst"].value


def test_another_shape_is_refused(tmp_path):
    image = keras.Input((9, 16, 1))
    model = keras.Model(image, layers.MaxPooling2D()(image))
    callback = Reconstructions(tmp_path, IMAGES)
    callback.set_model(model)
    with pytest.raises(ValueError, match=r"shape of its input .*\(12, 4, 8, 1\)"):
        callback.on_train_begin()
    assert not list(tmp_path.rglob("events*"))


def test_inputs_that_do_not_suit_are_refused(tmp_path):
    callback = Reconstructions(tmp_path, IMAGES[:, :5])
    callback.set_model(scaling())
    with pytest.raises(ValueError, match=r"`inputs` must suit .*\(12, 5, 16, 1\)"):
        callback.on_train_begin()


@pytest.mark.parametrize("inputs", [np.zeros((0, 9, 16, 1)), [], iter([]), "x", 3])
def test_no_samples_are_refused(tmp_path, inputs):
    with pytest.raises(ValueError, match="`inputs` must"):
        Reconstructions(tmp_path, inputs)


@pytest.mark.parametrize("name", ["every", "max_samples", "max_shown", "max_bytes"])
def test_bad_numbers_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive int"):
        Reconstructions(tmp_path, IMAGES, **{name: 0})
