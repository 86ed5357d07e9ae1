"""The kit sees each planted fault for what it is, and refuses no sound layer."""

import functools
import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_cae import layers
from keras_cae.testing import check_layer, check_pair
from keras_cae.testing.layer import PROMISES

BACKEND = keras.backend.backend()
LACKING = {
    "tensorflow": [],
    "jax": ["tracked weights", "SavedModel"],
    "torch": ["tracked weights", "SavedModel", "jit_compile"],
}
# All promises that a layer with a data format and weights makes, on each backend.
ASKED = [name for name in PROMISES if name not in LACKING[BACKEND]]
only_on = pytest.mark.skipif


def maps(*grid, channels=3, seed=0):
    """Two samples with negative numbers, large ones, and zeros."""
    values = np.random.default_rng(seed).normal(size=(2, *grid, channels))
    return np.where(np.abs(values) < 0.4, 0, values).astype("float32")


SEQUENCE, IMAGE, VOLUME = maps(7), maps(7, 10), maps(3, 4, 5)


class Thinned(keras.layers.Layer):
    """A sound layer: every `stride`-th cell, times a weight for each channel."""

    def __init__(self, stride=2, data_format="channels_last", **kwargs):
        super().__init__(**kwargs)
        self.stride = stride
        self.data_format = data_format

    def build(self, input_shape):
        axis = 1 if self.data_format == "channels_first" else -1
        self.scale = self.add_weight((input_shape[axis],), "ones", name="scale")

    def call(self, x):
        step = slice(None, None, self.stride)
        if self.data_format == "channels_first":
            return x[:, :, step, step] * self.scale[:, None, None]
        return x[:, step, step] * self.scale

    def compute_output_shape(self, input_shape):
        grid = slice(2, 4) if self.data_format == "channels_first" else slice(1, 3)
        shape = list(input_shape)
        shape[grid] = (None if n is None else -(-n // self.stride) for n in shape[grid])
        return tuple(shape)

    def get_config(self):
        return super().get_config() | {
            "stride": self.stride,
            "data_format": self.data_format,
        }


class DropsArgument(Thinned):
    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "stride"}


class KeepsDefault(Thinned):
    def get_config(self):
        return super().get_config() | {"stride": 2}


class SwapsArguments(keras.layers.Layer):
    """Kept under other names than the arguments', so that only outputs tell."""

    def __init__(self, low, high, **kwargs):
        super().__init__(**kwargs)
        self._low, self._high = low, high

    def call(self, x):
        return ops.clip(x, self._low, self._high)

    def get_config(self):
        return super().get_config() | {"low": self._low, "high": -self._low}


class ForgetsSuper(Thinned):
    def get_config(self):
        return {"stride": self.stride, "data_format": self.data_format}


class Floors(Thinned):
    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        height, width = (n and n // self.stride for n in (height, width))
        return batch, height, width, channels


class PromisesInputShape(Thinned):
    def compute_output_shape(self, input_shape):
        return input_shape


class PromisesOneOutput(Thinned):
    def call(self, x):
        return super().call(x), super().call(-x)

    def compute_output_spec(self, x):
        shape = self.compute_output_shape(x.shape)
        return tuple(keras.KerasTensor(shape, self.compute_dtype) for _ in range(2))


class GivesIndices(Thinned):
    """Keras promises the compute dtype to all who write compute_output_shape."""

    def call(self, x):
        return ops.cast(super().call(x) > 0, "int32")


class FreezesGrid(Thinned):
    def build(self, input_shape):
        super().build(input_shape)
        self.grid = input_shape[1:3]

    def call(self, x):
        thinned = super().call(x)
        return ops.reshape(thinned, (-1, *self.compute_output_shape(x.shape)[1:]))


class KeepsFirstGrid(Thinned):
    """Works on every grid, but the first one decides."""

    mean = None

    def call(self, x):
        if self.mean is None:
            self.mean = 1 / ops.cast(ops.shape(x)[1], "float32")
        return super().call(x) * self.mean


class AsksForValues(Thinned):
    def call(self, x):
        return super().call(x) if ops.sum(x) > 0 else -super().call(x)


class IsRandom(Thinned):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.noise = keras.random.SeedGenerator(0)

    def call(self, x):
        x = super().call(x)
        return x + keras.random.normal(ops.shape(x), seed=self.noise, dtype=x.dtype)


class Counts(Thinned):
    def build(self, input_shape):
        super().build(input_shape)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign(self.calls + 1)
        return super().call(x)


class WritesInput(Thinned):
    def call(self, x):
        return super().call(x.mul_(2))


class Centres(Thinned):
    def call(self, x):
        return super().call(x - ops.mean(x, axis=0))


class AddsSamples(Thinned):
    """The first sample does not see it."""

    def call(self, x):
        return super().call(ops.cumsum(x, axis=0))


class IgnoresFormat(Thinned):
    def call(self, x):
        step = slice(None, None, self.stride)
        axis = 1 if self.data_format == "channels_first" else -1
        shape = [1] * 4
        shape[axis] = -1
        return x[:, step, step] * ops.reshape(self.scale, shape)


class PromisesLastFormat(Thinned):
    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        height, width = (n and -(-n // self.stride) for n in (height, width))
        return batch, height, width, channels


class TakesRoot(Thinned):
    """Its sum of squares would hide it: their gradient is zero at zero."""

    def call(self, x):
        return ops.sqrt(ops.square(super().call(x)))


class TakesRootOfGrid(Thinned):
    """NaN where the whole grid is zero, which few inputs are."""

    def call(self, x):
        x = super().call(x)
        axes = (2, 3) if self.data_format == "channels_first" else (1, 2)
        return x + ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))


class Divides(Thinned):
    def call(self, x):
        return 1 / super().call(x)


class HidesWeight(Thinned):
    def build(self, input_shape):
        super().build(input_shape)
        self.hidden = types.SimpleNamespace(scale=keras.Variable(1.0))

    def call(self, x):
        return super().call(x) * self.hidden.scale


class LeaksFloat32(Thinned):
    def call(self, x):
        return ops.cast(super().call(x), "float32")


class LeaksForBfloat16(Thinned):
    def call(self, x):
        half = self.compute_dtype == "float16"
        return ops.cast(super().call(x), "float16" if half else "float32")


class Vanishes(Thinned):
    """float16 has no room for what stands between."""

    def call(self, x):
        return super().call(x) * 1e-4 * 1e-4 * 1e4 * 1e4


class PromisesFloat32(Thinned):
    def compute_output_spec(self, x):
        return keras.KerasTensor(self.compute_output_shape(x.shape), "float32")


class Exponentiates(Thinned):
    """A naive SoftPool: the result is small, what it is made of is not."""

    def call(self, x):
        weights = ops.exp(super().call(x))
        return ops.log(weights)


class Squares(Thinned):
    def call(self, x):
        x = super().call(x)
        return ops.sqrt(ops.square(x) + 1e-3)


class CallsPython(Thinned):
    def call(self, x):
        import tensorflow as tf

        y = tf.numpy_function(np.negative, [super().call(x)], x.dtype)
        y.set_shape(self.compute_output_shape(x.shape))
        return y


class Uncompiled(Thinned):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False

    def compute_output_spec(self, x):
        return keras.KerasTensor(self.compute_output_shape(x.shape), self.compute_dtype)


class CallsPythonUncompiled(CallsPython, Uncompiled):
    pass


class BuildsNoChild(keras.layers.Layer):
    """Keras builds the child on the first call, but not when it loads a file."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.child = keras.layers.Dense(3, dtype=self.dtype_policy)

    def call(self, x):
        return self.child(x)


class HidesChild(BuildsNoChild):
    """With the shape told, not even a functional model builds it."""

    def compute_output_shape(self, input_shape):
        return input_shape


class SavesNothing(Thinned):
    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


@functools.cache
def table():
    """Nobody's table, so that no SavedModel knows it."""
    import tensorflow as tf

    with tf.init_scope():
        pairs = tf.lookup.KeyValueTensorInitializer([0], [2.0])
        return tf.lookup.StaticHashTable(pairs, 1.0)


class LooksUp(Uncompiled):
    def call(self, x):
        return super().call(x) * ops.cast(
            table().lookup(ops.zeros((), "int32")), x.dtype
        )


not_torch = only_on(BACKEND == "torch", reason="this backend does not trace")
on_tensorflow = only_on(BACKEND != "tensorflow", reason="for TensorFlow")
on_torch = only_on(BACKEND != "torch", reason="tensors change on PyTorch only")
FAULTS = [
    (DropsArgument(stride=3), r"config: get_config\(\) lacks \['stride'\]"),
    (KeepsDefault(stride=3), "config: `stride` was 3, and came back as 2"),
    (SwapsArguments(-1.0, 0.5), "config: .* outputs differ by up to"),
    (ForgetsSuper(), r"config: get_config\(\) lacks \['name', 'dtype'\]"),
    (Floors(), r"symbolic shape: promised \(None, 3, 5, 3\), got \(2, 4, 5, 3\)"),
    (PromisesInputShape(), "symbolic shape: promised"),
    (PromisesOneOutput(), "symbolic shape: promised 1 outputs by compute_output_shape"),
    (GivesIndices(), "symbolic dtype: promised float32, got int32"),
    pytest.param(FreezesGrid(), "unknown sizes: ", marks=on_tensorflow),
    (KeepsFirstGrid(), "unknown sizes: .* outputs differ"),
    pytest.param(AsksForValues(), "(unknown sizes|jit_compile): ", marks=not_torch),
    (IsRandom(), "inference: a second call: outputs differ"),
    (Counts(), "state: a call with training=False changed"),
    pytest.param(WritesInput(), "inputs: the layer writes into", marks=on_torch),
    (Centres(), "samples: sample 0 without the others: outputs differ"),
    (AddsSamples(), "samples: sample 1 without the others: outputs differ"),
    (IgnoresFormat(), "data format: "),
    (PromisesLastFormat(), "data format: promised .* in channels_first"),
    (TakesRoot(), r"gradients: gradient of input x: \d+ values are not finite"),
    (TakesRootOfGrid(), "gradients: gradient of input x at zero"),
    (Divides(), "gradients: output"),
    pytest.param(HidesWeight(), "tracked weights: ", marks=on_tensorflow),
    (LeaksFloat32(), "mixed_float16: outputs must be float16, got float32"),
    (Vanishes(), "mixed_float16: beside float32: outputs differ"),
    (LeaksForBfloat16(), "mixed_bfloat16: outputs must be bfloat16, got float32"),
    (PromisesFloat32(), "mixed_float16: promised float32, got float16"),
    (Exponentiates(), "mixed_float16: inputs up to 60 give inf where float32 gives"),
    (Squares(), "mixed_float16: inputs up to 1024 give inf where float32 gives"),
    pytest.param(CallsPython(), "jit_compile: ", marks=on_tensorflow),
    pytest.param(BuildsNoChild(), "subclassed model: ", marks=not_torch),
    (HidesChild(), "(keras file|subclassed model): "),
    (SavesNothing(), "keras file: after reload: outputs differ"),
    pytest.param(CallsPythonUncompiled(), "SavedModel: .* Python", marks=on_tensorflow),
    pytest.param(LooksUp(), "SavedModel: .*untracked", marks=on_tensorflow),
]


@pytest.mark.filterwarnings("ignore:.*was called on layer:UserWarning")
@pytest.mark.parametrize(("layer", "fault"), FAULTS, ids=lambda v: type(v).__name__)
def test_each_fault_is_named(layer, fault):
    with pytest.raises(AssertionError, match=f"(?s){type(layer).__name__}: {fault}"):
        check_layer(layer, IMAGE)


def keras_layers():
    for rank, x in ((1, SEQUENCE), (2, IMAGE), (3, VOLUME)):
        for name in ("MaxPooling", "AveragePooling"):
            kind = getattr(keras.layers, f"{name}{rank}D")
            yield kind(2), x
            yield kind(3, strides=2, padding="same"), x
        # Keras' sum with a bias mistakes a width for channels where both are one size.
        for name in (f"Conv{rank}D", f"Conv{rank}DTranspose"):
            kind = getattr(keras.layers, name)
            yield kind(6, 3, strides=2, padding="same"), x
        yield getattr(keras.layers, f"UpSampling{rank}D")(2), x
    yield keras.layers.BatchNormalization(), IMAGE
    yield keras.layers.Dropout(0.5), IMAGE
    yield keras.layers.Dense(4), IMAGE
    yield keras.layers.Concatenate(), {"inputs": [IMAGE, 2 * IMAGE]}


@pytest.mark.parametrize(
    ("layer", "x"),
    [(Thinned(3), IMAGE), *keras_layers()],
    ids=lambda v: type(v).__name__,
)
def test_no_sound_layer_is_refused(layer, x):
    checked = check_layer(layer, x)
    spared = {"data format", "mixed_float16", "mixed_bfloat16"}
    assert set(ASKED) - set(checked) <= spared


def test_all_promises_are_checked():
    assert check_layer(Thinned(3), IMAGE) == ASKED


def test_a_promise_can_be_skipped():
    checked = check_layer(Divides(), IMAGE, skip=["gradients"])
    assert checked == [name for name in ASKED if name != "gradients"]


def test_the_layer_keeps_its_weights():
    layer = Thinned()
    layer(IMAGE)
    before = layer.get_weights()
    check_layer(layer, IMAGE)
    np.testing.assert_array_equal(layer.get_weights(), before)


def test_a_layer_with_several_tensors_and_settings_is_called_by_name():
    pooled, switches = layers.MaxPooling(2, return_switches=True)(IMAGE)
    inputs = {"like": (7, 10), "switches": switches, "x": pooled}
    assert "unknown sizes" in check_layer(layers.MaxUnpooling(2), inputs)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((IMAGE, IMAGE), "`layer` must be a Keras layer"),
        ((Thinned(), IMAGE[:1]), "`inputs` must hold arrays with two samples"),
        ((Thinned(), {"x": 1}), "`inputs` must hold arrays with two samples"),
        ((Thinned(dtype="mixed_float16"), IMAGE), "`layer` must compute in float32"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error):
    with pytest.raises(ValueError, match=error):
        check_layer(*arguments)


def test_an_unknown_promise_cannot_be_skipped():
    with pytest.raises(ValueError, match="`skip` must hold names of promises"):
        check_layer(Thinned(), IMAGE, skip=["gradient"])


class Repeats(keras.layers.Layer):
    """Nearest up-sampling by 2, cut to the grid of `like`: sound."""

    def call(self, x, like=None):
        grid = ops.shape(x if like is None else like)[1:3]
        x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
        return x[:, : grid[0], : grid[1]]

    def compute_output_spec(self, x, like=None):
        return keras.KerasTensor((*like.shape[:3], x.shape[3]), self.compute_dtype)


class IgnoresLike(Repeats):
    def call(self, x, like=None):
        return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)


class KeepsFirstLike(Repeats):
    grid = None

    def call(self, x, like=None):
        self.grid = self.grid or tuple(like.shape[1:3])
        return super().call(x, like)[:, : self.grid[0], : self.grid[1]]


class ReadsShape(Repeats):
    """Sizes that a graph does not know are None here, which cuts nothing off."""

    def call(self, x, like=None):
        x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
        return x[:, : like.shape[1], : like.shape[2]]


class Blends(Repeats):
    def call(self, x, like=None):
        return super().call(x + ops.mean(x, axis=-1, keepdims=True), like)


class BlendsPooled(layers.AveragePooling):
    def call(self, x):
        return super().call(ops.cumsum(x, axis=-1))


class DividesEvenly(layers.AveragePooling):
    def call(self, x):
        if any(size % 2 for size in x.shape[1:3]):
            raise ValueError("the window must divide the grid")
        return super().call(x)


class AddsOverlaps(layers.MaxUnpooling):
    """Windows of 3 by 2 on a sequence; a cell that two chose gets the sum."""

    def call(self, x, switches=None, like=None):
        pooled, size = ops.shape(x)[1], ops.shape(like)[1]
        border = ops.maximum((pooled - 1) * 2 + 3 - size, 0) // 2
        chosen = switches + ops.reshape(ops.arange(pooled) * 2 - border, (-1, 1))
        here = ops.equal(
            ops.expand_dims(chosen, 1), ops.reshape(ops.arange(size), (-1, 1, 1))
        )
        return ops.sum(ops.where(here, ops.expand_dims(x, 1), 0), axis=2)


def average():
    return layers.AveragePooling(2)


PAIR_FAULTS = [
    (average(), IgnoresLike(), {}, r"size: a grid of \(1, 1\) came back as \(2, 2\)"),
    (
        average(),
        KeepsFirstLike(),
        {},
        r"size: a grid of \(2, 2\) came back as \(1, 1\)",
    ),
    (average(), keras.layers.UpSampling2D(), {}, "size: .*like"),
    (DividesEvenly(2), Repeats(), {}, "size: ValueError: .* must divide the grid"),
    (average(), Blends(), {}, "channels: channel 0 of the restored map depends on"),
    (
        BlendsPooled(2),
        Repeats(),
        {},
        "channels: channel 1 of the pooled map depends on",
    ),
    (
        average(),
        Repeats(),
        {"lossless": True},
        r"lossless: unpool\(pool\(x\)\) .*differ",
    ),
    (average(), Repeats(), {"adjoint": True}, "adjoint: <pool"),
    (layers.MaxPooling(3, 2), Repeats(), {"idempotent": True}, "idempotent: "),
    pytest.param(
        average(), ReadsShape(), {}, "unknown sizes: on a grid of", marks=on_tensorflow
    ),
]


@pytest.mark.parametrize(
    ("pooling", "unpooling", "laws", "fault"),
    PAIR_FAULTS,
    ids=lambda v: type(v).__name__,
)
def test_each_broken_law_is_named(pooling, unpooling, laws, fault):
    pair = f"{type(pooling).__name__} and {type(unpooling).__name__}"
    with pytest.raises(AssertionError, match=f"(?s){pair}: {fault}"):
        check_pair(pooling, unpooling, IMAGE, **laws)


def test_values_added_where_windows_overlap_are_seen():
    pooling = layers.MaxPooling(3, 2, return_switches=True)
    x = np.abs(SEQUENCE)
    sound = check_pair(pooling, layers.MaxUnpooling(3, 2), x, idempotent=True)
    assert sound == ["size", "unknown sizes", "channels", "idempotent"]
    with pytest.raises(AssertionError, match=r"idempotent: .* differ"):
        check_pair(pooling, AddsOverlaps(3, 2), x, idempotent=True)


def test_a_window_may_refuse_grids_that_it_does_not_fit_into():
    pooling = keras.layers.AveragePooling2D(3)
    checked = check_pair(pooling, layers.AverageUnpooling(3, padding="valid"), IMAGE)
    assert checked == ["size", "unknown sizes", "channels"]


def test_a_pair_with_mixed_channels_says_so():
    pair = layers.StridedConv(2), layers.TransposedConv(2)
    with pytest.raises(AssertionError, match="`mixes_channels=True` declares that"):
        check_pair(*pair, IMAGE)
    assert check_pair(*pair, IMAGE, mixes_channels=True) == ["size", "unknown sizes"]
