import logging
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_cae as cae
from keras_cae.callbacks import (
    LatentSpace,
    Reconstructions,
    latent_maps,
    latent_space,
    units,
)
from keras_cae.callbacks.quality import psnr
from keras_cae.page import read_entries

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(size=(40, 8, 8, 1)).astype("float32")


def tiny(latent=3, **options):
    keras.utils.set_random_seed(0)
    return cae.autoencoder((8, 8, 1), filters=(4,), latent=latent, **options)


def log_once(callback, model):
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0)
    callback.on_train_end()
    entries = read_entries(callback._folder)
    return {entry.tag.removeprefix("latent/"): entry for entry in entries}


def vectors(folder):
    rows = (folder / "latent_space" / "latent.tsv").read_text().splitlines()
    return np.array([[float(x) for x in row.split("\t")] for row in rows])


def labels(folder):
    rows = (folder / "latent_space" / "metadata.tsv").read_text().splitlines()
    return [row.split("\t")[0] for row in rows]


def test_vectors_and_figures_are_those_of_the_encoder(tmp_path):
    model = tiny()
    entries = log_once(LatentSpace(tmp_path, IMAGES), model)
    latents = model.encoder.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(vectors(tmp_path), latents, rtol=1e-5, atol=1e-6)
    assert entries["active_units"].value == units.active(latents).sum()
    expected = units.mean_correlation(units.correlations(latents))
    np.testing.assert_allclose(entries["correlation"].value, expected, rtol=1e-4)
    counts = entries["values"].value[:, 2]
    assert counts.sum() == latents.size
    assert entries["variances"].value[:, 2].sum() == 3


def test_latents_are_those_after_training(tmp_path):
    model = tiny()
    model.compile("adam", "mse")
    callback = LatentSpace(tmp_path, IMAGES)
    model.fit(IMAGES, IMAGES, epochs=2, verbose=0, callbacks=[callback])
    latents = model.encoder.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(vectors(tmp_path), latents, rtol=1e-4, atol=1e-5)


def test_latent_with_a_grid_is_averaged_over_it(tmp_path):
    model = tiny(latent=None)
    entries = log_once(LatentSpace(tmp_path, IMAGES), model)
    latents = model.encoder.predict(IMAGES, verbose=0)
    assert latents.shape == (40, 4, 4, 4)
    np.testing.assert_allclose(vectors(tmp_path), latents.mean((1, 2)), rtol=1e-4)
    assert entries["active_units"].value == units.active(latents).sum()


def test_large_latents_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_space, "PROJECTED", 5)
    monkeypatch.setattr(latent_space, "HELD", 33 * 64)
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, layers.Flatten(name="code")(image))
    images = IMAGES.copy()
    images[:, 2, 3:5] *= 9
    log_once(LatentSpace(tmp_path, images, range(40), layer="code"), model)
    assert vectors(tmp_path).shape == (33, 5)
    columns = vectors(tmp_path)
    assert any(np.allclose(column, images[:33, 2, 3, 0]) for column in columns.T)
    assert len(labels(tmp_path)) == 34


def test_latent_with_channels_first_has_its_units_there(tmp_path):
    model = cae.autoencoder((1, 8, 8), filters=(4,), data_format="channels_first")
    images = np.moveaxis(IMAGES, -1, 1)
    if keras.backend.backend() == "tensorflow":
        model.compile(jit_compile=True)
        model.encoder.compile(jit_compile=True)
    log_once(LatentSpace(tmp_path, images), model)
    latents = keras.ops.convert_to_numpy(model.encoder(images))
    np.testing.assert_allclose(vectors(tmp_path), latents.mean((2, 3)), rtol=1e-4)


def test_switches_beside_the_latent_are_left_alone(tmp_path):
    model = tiny(unpooling="partner")
    log_once(LatentSpace(tmp_path, IMAGES), model)
    latents = model.encoder.predict(IMAGES, verbose=0)["latent"]
    np.testing.assert_allclose(vectors(tmp_path), latents, rtol=1e-4, atol=1e-6)


def plain():
    image = keras.Input((8, 8, 1))
    inner = keras.Sequential(
        [keras.Input((64,)), layers.Dense(4, name="code")], name="inner"
    )
    code = inner(layers.Flatten()(image))
    return keras.Model(image, layers.Dense(64)(code), name="plain")


@pytest.mark.parametrize("how", ["name", "layer", "nested model", "other model"])
def test_layer_may_be_a_name_a_layer_or_a_model(tmp_path, how):
    model = plain()
    code = model.get_layer("inner").get_layer("code")
    layer = {
        "name": "code",
        "layer": code,
        "nested model": model.get_layer("inner"),
        "other model": keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Flatten(), code]
        ),
    }[how]
    log_once(LatentSpace(tmp_path, IMAGES, layer=layer), model)
    expected = keras.ops.convert_to_numpy(code(IMAGES.reshape(40, 64)))
    np.testing.assert_allclose(vectors(tmp_path), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [None, "codes"])
def test_error_names_the_layers_where_the_latent_cannot_be_told(tmp_path, layer):
    callback = LatentSpace(tmp_path, IMAGES, layer=layer)
    callback.set_model(plain())
    with pytest.raises(ValueError, match=r"`layer` must name .*'plain'.*'inner'"):
        callback.on_train_begin()


def test_layer_that_is_never_called_is_refused(tmp_path):
    model = Subclassed()
    model.unused = layers.Dense(2, name="unused")
    model.unused.build((None, 3))
    callback = LatentSpace(tmp_path, IMAGES, layer="unused")
    callback.set_model(model)
    with pytest.raises(ValueError, match="`layer` must be one that the model calls"):
        callback.on_train_begin()


def test_layer_that_is_no_layer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`layer` must be None, the name"):
        LatentSpace(tmp_path, IMAGES, layer=3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (range(40), ["label", *map(str, range(40))]),
        (
            [f"class {n}" for n in range(50)],
            ["label", *(f"class {n}" for n in range(40))],
        ),
        (None, [str(n) for n in range(40)]),
    ],
    ids=["numbers", "strings", "none"],
)
def test_labels_stand_beside_their_samples(tmp_path, given, expected):
    log_once(LatentSpace(tmp_path, IMAGES, given), tiny())
    assert labels(tmp_path) == expected


@pytest.mark.parametrize("shape", [(40,), (40, 1)], ids=str)
def test_labels_of_the_data_are_taken(tmp_path, shape):
    targets = np.arange(40).reshape(shape)
    batches = iter([(IMAGES[:32], targets[:32]), (IMAGES[32:], targets[32:])])
    log_once(LatentSpace(tmp_path, batches, max_samples=35), tiny())
    assert labels(tmp_path) == ["label", *map(str, range(35))]


def test_targets_that_are_images_are_no_labels(tmp_path):
    log_once(LatentSpace(tmp_path, iter([(IMAGES, IMAGES)])), tiny())
    assert labels(tmp_path) == [str(n) for n in range(40)]


@pytest.mark.parametrize("given", [[1, 2], np.zeros((40, 3)), np.zeros(40), 5])
def test_bad_labels_are_refused(tmp_path, given):
    with pytest.raises(ValueError, match="`labels` must be whole numbers or strings"):
        LatentSpace(tmp_path, IMAGES, given)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_latents_that_are_not_finite_leave_the_projector_alone(tmp_path, caplog):
    model = tiny()
    bias = model.encoder.layers[-1].weights[-1]
    bias.assign([0, np.nan, 0])
    with caplog.at_level(logging.WARNING):
        entries = log_once(LatentSpace(tmp_path, IMAGES), model)
    assert "not finite" in caplog.text
    assert not list(tmp_path.rglob("*.pbtxt"))
    assert "plane" not in entries


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_dead_latent_is_shown_as_such(tmp_path):
    model = tiny()
    model.encoder.set_weights([0 * weight for weight in model.encoder.get_weights()])
    entries = log_once(LatentSpace(tmp_path, IMAGES), model)
    assert entries["active_units"].value == 0
    assert np.isnan(entries["correlation"].value)
    assert entries["correlations"].value


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_one_sample_and_one_unit_are_enough(tmp_path):
    entries = log_once(LatentSpace(tmp_path, IMAGES[:1]), tiny(latent=1))
    assert entries["active_units"].value == 0
    assert vectors(tmp_path).shape == (1, 3)


def test_full_disk_costs_the_projector_not_the_training(tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_cae.callbacks.latent_space.write_vectors", fail)
    entries = log_once(LatentSpace(tmp_path, IMAGES), tiny())
    assert "No space left" in caplog.text
    assert "active_units" in entries


class Subclassed(keras.Model):
    """An encoder and a decoder that are no functional model, not built yet."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([layers.Flatten(), layers.Dense(3)])
        self.decoder = keras.Sequential([layers.Dense(64), layers.Reshape((8, 8, 1))])

    def call(self, x):
        return self.decoder(self.encoder(x))


TF = keras.backend.backend() == "tensorflow"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"run_eagerly": True},
        pytest.param(
            {"jit_compile": True}, marks=pytest.mark.skipif(not TF, reason="")
        ),
    ],
    ids=str,
)
def test_subclassed_model_is_seen_however_it_is_compiled(tmp_path, options):
    keras.utils.set_random_seed(0)
    model = Subclassed()
    model.compile("adam", "mse", **options)
    watching = [LatentSpace(tmp_path, IMAGES), Reconstructions(tmp_path, IMAGES)]
    model.fit(IMAGES, IMAGES, epochs=2, verbose=0, callbacks=watching)
    latents = model.encoder.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(vectors(tmp_path), latents, rtol=1e-4, atol=1e-5)
    outputs = model.predict(IMAGES, verbose=0)
    (found,) = [
        entry.value
        for entry in read_entries(tmp_path / "reconstructions")
        if entry.tag == "reconstructions/psnr"
    ]
    np.testing.assert_allclose(found, psnr(IMAGES, outputs, 1.0).mean(), 1e-4)


def test_mixed_precision_has_finite_figures(tmp_path):
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    image = keras.Input((8, 8, 1))
    x = layers.Flatten()(image)
    code = layers.Dense(3, dtype=policy, name="code")(x)
    model = keras.Model(image, layers.Reshape((8, 8, 1))(layers.Dense(64)(code)))
    entries = log_once(LatentSpace(tmp_path, IMAGES, layer="code"), model)
    assert np.isfinite(entries["correlation"].value)


def test_model_of_two_inputs_has_a_latent(tmp_path):
    inputs = {name: keras.Input((8, 8, 1), name=name) for name in ("one", "two")}
    x = layers.Flatten()(layers.Add()(list(inputs.values())))
    model = keras.Model(inputs, layers.Dense(1)(layers.Dense(3, name="code")(x)))
    images = {"one": IMAGES, "two": IMAGES[::-1].copy()}
    log_once(LatentSpace(tmp_path, images, layer="code"), model)
    assert vectors(tmp_path).shape == (40, 3)


def test_training_is_the_same_with_and_without(tmp_path):
    histories = []
    for watching in (
        [],
        [LatentSpace(tmp_path, IMAGES), Reconstructions(tmp_path, IMAGES)],
    ):
        model = tiny()
        model.compile("adam", "mse", metrics=["mae"])
        history = model.fit(IMAGES, IMAGES, epochs=3, verbose=0, callbacks=watching)
        histories.append(history.history)
    assert histories[0] == histories[1]


REPLICAS = """
import sys, numpy, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras_cae as cae
images = numpy.random.default_rng(0).uniform(size=(16, 8, 8, 1)).astype("float32")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = cae.autoencoder((8, 8, 1), filters=(4,), latent=3)
    model.compile("adam", "mse")
watching = [cae.callbacks.LatentSpace(sys.argv[1], images)]
watching += [cae.callbacks.Reconstructions(sys.argv[1], images)]
model.fit(images, images, batch_size=8, epochs=2, verbose=0, callbacks=watching)
found = numpy.loadtxt(sys.argv[1] + "/latent_space/latent.tsv")
numpy.testing.assert_allclose(found, model.encoder(images), rtol=1e-4, atol=1e-5)
"""


@pytest.mark.skipif(not TF, reason="MirroredStrategy is TensorFlow's")
def test_two_replicas_have_one_writer(tmp_path):
    command = [sys.executable, "-c", REPLICAS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("events*"))) == 2
    figures = read_entries(tmp_path / "reconstructions")
    assert {entry.step for entry in figures} == {1}


def test_sprite_and_labels_are_written_once(tmp_path, monkeypatch):
    calls = []
    write = latent_space.write_projector
    monkeypatch.setattr(
        latent_space, "write_projector", lambda *args: calls.append(write(*args))
    )
    model = tiny()
    model.compile("adam", "mse")
    callback = LatentSpace(tmp_path, IMAGES)
    model.fit(IMAGES, IMAGES, epochs=3, verbose=0, callbacks=[callback])
    assert len(calls) == 1


class Counted(layers.Layer):
    """Counts how often it is called, which is once a trace."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is traced")
def test_nothing_is_traced_twice(tmp_path):
    counted = Counted()
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, counted(layers.Flatten()(image)))
    built = counted.calls
    callback = LatentSpace(tmp_path, np.tile(IMAGES, (2, 1, 1, 1)), layer=counted)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(3):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    assert counted.calls == built + 1


def test_plane_keeps_far_samples_apart():
    places = np.array([[0.0, 0, 0], [10, 0, 0], [0, 1, 0], [10, 1, 0]])
    images = np.arange(4, dtype="uint8").reshape(4, 1, 1, 1) * np.ones(
        (1, 8, 8, 3), "uint8"
    )
    picture, drawn = latent_maps.plane(places, images)
    assert drawn == 4
    tops, lefts = zip(
        *(np.argwhere((picture == n).all(-1)).min(0) for n in range(4)), strict=True
    )
    assert tops[0] == tops[1] != tops[2] == tops[3]
    assert lefts[0] == lefts[2] != lefts[1] == lefts[3]
    assert abs(lefts[0] - lefts[1]) == 632
    assert abs(abs(tops[0] - tops[2]) - 63) <= 1


def test_plane_leaves_out_what_would_cover_another():
    picture, drawn = latent_maps.plane(
        np.zeros((5, 3)), np.zeros((5, 56, 20, 3), "uint8")
    )
    assert drawn == 1
    assert (picture == 0).all(-1).sum() == 28 * 10


def test_most_varying_units_are_drawn():
    latents = RANDOM.normal(size=(50, 40)) * np.linspace(1, 2, 40)
    many = latent_maps.matrix(units.correlations(latents), units.variances(latents))
    alone = latents[:, np.sort(np.argsort(-latents.var(0))[:32])]
    few = latent_maps.matrix(units.correlations(alone), units.variances(alone))
    assert many.shape == few.shape
    assert (many[:, 14:] == few[:, 14:]).all()
