"""The maps of every kind of model, under every kind of training."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import keras_cae
from keras_cae.callbacks import PooledFeatureMaps

TF = keras.backend.backend() == "tensorflow"
IMAGES = np.random.default_rng(0).uniform(size=(8, 12, 12, 1)).astype("float32")
NUMBERS = ["aliasing", "dead_channels", "effective_channels", "shift_consistency"]
NUMBERS += ["sparsity"]


def read(log_dir):
    """`{tag: [(step, tensor), ...]}` of all events."""
    folder = str(log_dir / "feature_maps")
    events = EventAccumulator(folder, size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in found]
        for tag in events.Tags()["tensors"]
        for found in [events.Tensors(tag)]
    }


def train(model, log_dir, inputs=IMAGES, epochs=2, **options):
    """Trains on zeros, with maps, and returns the tags; all must have all steps."""
    options = {"optimizer": "sgd", "loss": "mse"} | options
    model.compile(**options)
    outputs = keras.ops.convert_to_numpy(model.predict(inputs, verbose=0))
    maps = PooledFeatureMaps(log_dir, inputs)
    targets = np.zeros_like(outputs)
    model.fit(inputs, targets, 4, epochs, verbose=0, callbacks=[maps])
    events = read(log_dir)
    for tag, found in events.items():
        assert [step for step, _ in found] == list(range(epochs)), tag
        if tag.rpartition("/")[-1] in (*NUMBERS, "energy_kept"):
            assert np.all(np.isfinite([value for _, value in found])), tag
    return set(events) - {"feature_maps/seconds"}


def tags_of(*names, switches=True):
    """The tags of poolings that choose maxima, and so have all of them."""
    kinds = ["before", "after", "before/histogram", "after/histogram", *NUMBERS]
    kinds += ["energy_kept", "switches"] if switches else []
    return {f"{name}/{kind}" for name in names for kind in kinds}


def small(*more, shape=(12, 12, 1), **options):
    """A convolution, a max pooling called `pool`, `more`, and a head."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(name="pool"),
            *more,
            layers.Flatten(),
            layers.Dense(1, dtype="float32"),
        ],
        **options,
    )


def test_autoencoder_has_tags_that_group_by_block(tmp_path):
    model = keras_cae.autoencoder((12, 12, 1), filters=(3, 4))
    tags = train(model, tmp_path)
    assert tags == tags_of("encoder_block_1", "encoder_block_2")


@pytest.mark.parametrize("pooling", ["strided", "haar", "blur", "average", "gated"])
def test_poolings_of_all_sorts_have_the_numbers_that_suit_them(tmp_path, pooling):
    model = keras_cae.autoencoder((12, 12, 1), filters=(3,), pooling=pooling)
    expected = tags_of("encoder_block_1", switches=False)
    if pooling not in ("strided", "haar"):
        expected |= {"encoder_block_1/energy_kept"}
    assert train(model, tmp_path) == expected


def test_nested_and_shared_layers(tmp_path):
    pool = layers.MaxPooling2D(name="pool")
    inner = keras.Sequential([layers.Conv2D(3, 3, padding="same"), pool], name="inner")
    x = keras.Input((12, 12, 1))
    model = keras.Model(x, layers.Flatten()(pool(inner(x))))
    assert train(model, tmp_path) == tags_of("inner/pool", "inner/pool_2")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = small()

    def call(self, x):
        return self.inner(x)


def test_subclassed_model(tmp_path):
    model = Subclassed()
    assert train(model, tmp_path) == tags_of(f"{model.inner.name}/pool")


def test_several_inputs(tmp_path):
    a, b = keras.Input((12, 12, 1), name="a"), keras.Input((3,), name="b")
    flat = layers.Flatten()(layers.MaxPooling2D(name="pool")(a))
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(flat) + layers.Dense(1)(b))
    inputs = {"a": IMAGES, "b": np.ones((8, 3), "float32")}
    assert train(model, tmp_path, inputs) == tags_of("pool")


def test_inputs_with_different_grids_have_no_shift_consistency(tmp_path):
    a, b = keras.Input((12, 12, 1), name="a"), keras.Input((6, 6, 1), name="b")
    pooled = layers.MaxPooling2D(name="pool")(a) + b
    model = keras.Model([a, b], layers.Dense(1)(layers.Flatten()(pooled)))
    tags = train(model, tmp_path, [IMAGES, IMAGES[:, :6, :6]])
    assert tags == tags_of("pool") - {"pool/shift_consistency"}


def test_channels_first(tmp_path):
    x = keras.Input((2, 12, 12))
    pooled = layers.MaxPooling2D(data_format="channels_first", name="pool")(x)
    model = keras.Model(x, layers.Dense(1)(layers.Flatten()(pooled)))
    inputs = np.moveaxis(np.concatenate([IMAGES, 1 - IMAGES], -1), -1, 1)
    assert train(model, tmp_path, inputs) == tags_of("pool")
    same = keras.Sequential(
        [
            keras.Input((12, 12, 2)),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    train(same, tmp_path / "last", np.moveaxis(inputs, 1, -1))
    first, last = read(tmp_path), read(tmp_path / "last")
    for number in (*NUMBERS, "energy_kept"):
        tag = f"pool/{number}"
        assert first[tag][0][1] == pytest.approx(last[tag][0][1], abs=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_sequences_and_volumes(tmp_path, rank):
    shape = (8,) * rank
    inputs = np.random.default_rng(0).uniform(size=(8, *shape, 2)).astype("float32")
    pool = getattr(layers, f"MaxPooling{rank}D")(name="pool")
    parts = [keras.Input((*shape, 2)), pool, layers.Flatten(), layers.Dense(1)]
    assert train(keras.Sequential(parts), tmp_path, inputs) == tags_of("pool")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(tmp_path, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        assert train(small(), tmp_path) == tags_of("pool")
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}])
def test_compiled_and_eager(tmp_path, options):
    if options == {"run_eagerly": True} and keras.backend.backend() == "jax":
        pytest.skip("Keras takes no run_eagerly from JAX models here")
    assert train(small(), tmp_path, **options) == tags_of("pool")


def test_unknown_grid(tmp_path):
    model = keras_cae.autoencoder((None, None, 1), filters=(3,))
    assert train(model, tmp_path) == tags_of("encoder_block_1")


def test_strides_above_the_bound_have_no_aliasing(tmp_path):
    tags = train(small(layers.Conv2D(3, 6, strides=6, name="patches")), tmp_path)
    assert "patches/aliasing" not in tags
    assert "patches/sparsity" in tags


class Fixed(layers.Layer):
    """A pooling that runs on no other batch than the one it was built for."""

    pool_size, strides = 2, 2

    def call(self, x):
        x = keras.ops.reshape(x, (4, 6, 2, 6, 2, 1))
        return keras.ops.max(x, axis=(2, 4))

    def compute_output_shape(self, input_shape):
        return (None, 6, 6, 1)


def test_layer_that_runs_on_one_batch_size_alone_has_maps_but_no_aliasing(tmp_path):
    x = keras.Input((12, 12, 1))
    pooled = Fixed(name="pool")(x)
    model = keras.Model(x, layers.Dense(1)(layers.Flatten()(pooled)))
    tags = train(model, tmp_path, IMAGES[:4])
    assert tags == tags_of("pool", switches=False) - {"pool/aliasing"} | {
        "pool/energy_kept"
    }


def test_inputs_of_whole_numbers(tmp_path):
    inputs = (255 * IMAGES).astype("uint8")
    model = small()
    model = keras.Sequential(
        [keras.Input((12, 12, 1)), layers.Rescaling(1 / 255), model]
    )
    assert train(model, tmp_path, inputs) == tags_of(f"{model.layers[-1].name}/pool")


class Counted(layers.Layer):
    """Counts how often Python runs it, which is how often it is traced."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is traced")
def test_nothing_is_traced_again(tmp_path):
    counted = Counted()
    model = small(counted)
    model.compile("sgd", "mse")
    maps = PooledFeatureMaps(tmp_path, IMAGES, max_time=None)
    maps.set_model(model)
    maps.on_train_begin()
    traced = counted.calls
    for epoch in range(20):
        maps.on_epoch_end(epoch)
    maps.on_train_end()
    assert counted.calls == traced


def resident():
    """How much memory the process holds, in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_file_and_memory_stay_small_in_200_epochs(tmp_path):
    model = keras_cae.autoencoder((28, 28, 1))
    model.compile("sgd", "mse")
    rows, columns = np.mgrid[-14:14, -14:14]
    rings = [np.hypot(rows + 2, columns) - radius for radius in (4, 6, 8, 10)]
    images = np.exp(-np.square(rings))[..., None]  # as smooth and dark as digits are
    maps = PooledFeatureMaps(tmp_path, images, max_time=None)
    maps.set_model(model)
    maps.on_train_begin()
    held = {}
    for epoch in range(200):
        maps.on_epoch_end(epoch)
        if epoch in (19, 199):
            held[epoch] = resident()
        if epoch == 99:
            (file,) = (tmp_path / "feature_maps").iterdir()
            assert file.stat().st_size < 20e6
    maps.on_train_end()
    assert held[199] < 1.05 * held[19]


STRATEGY = """
import sys, numpy as np, tensorflow as tf, keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras import layers
from keras_cae.callbacks import PooledFeatureMaps
images = np.random.default_rng(0).uniform(size=(16, 8, 8, 1)).astype("float32")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3),
        layers.MaxPooling2D(name="pool"), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
maps = PooledFeatureMaps(sys.argv[1], images)
model.fit(images, np.zeros((16, 1)), batch_size=8, epochs=2, verbose=0,
    callbacks=[maps])
x = layers.Conv2D(3, 3)
plain = keras.Sequential([keras.Input((8, 8, 1)), x, layers.MaxPooling2D()])
x.set_weights(model.layers[0].get_weights())
np.save(sys.argv[2], plain(images[:4]))
"""


@pytest.mark.skipif(not TF, reason="MirroredStrategy is of TensorFlow")
def test_mirrored_strategy_writes_one_file_with_the_maps_of_the_model(tmp_path):
    after = tmp_path / "after.npy"
    command = [sys.executable, "-c", STRATEGY, str(tmp_path), str(after)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    assert len(list((tmp_path / "feature_maps").iterdir())) == 1
    events = read(tmp_path)
    assert {step for found in events.values() for step, _ in found} == {0, 1}
    left, right, counts = events["pool/after/histogram"][-1][1].T
    expected = np.load(after)
    assert counts.sum() == expected.size
    np.testing.assert_allclose([left[0], right[-1]], [expected.min(), expected.max()])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("MobileNetV2", 5),
        ("ConvNeXtTiny", 4),
        pytest.param("VGG16", 5, marks=pytest.mark.slow),
        pytest.param("DenseNet121", 5, marks=pytest.mark.slow),
    ],
)
def test_models_of_keras_applications_are_seen_whole(tmp_path, name, count):
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3))
    images = np.random.default_rng(0).uniform(size=(2, 96, 96, 3)).astype("float32")
    maps = PooledFeatureMaps(tmp_path, images)
    maps.set_model(model)
    maps.on_train_begin()
    maps.on_epoch_end(0)
    maps.on_train_end()
    tags = [tag for tag in read(tmp_path) if tag.endswith("/after")]
    assert len(tags) == count
