import gc
import io
import re
import threading
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from keras_cae.callbacks import PooledFeatureMaps, diagnostics, drawing, tiles
from keras_cae.layers import MaxPooling

IMAGES = np.random.default_rng(0).uniform(size=(12, 9, 8, 1)).astype("float32")


def make_model(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((9, 8, 1)),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(name="first"),
            layers.Conv2D(4, 3, strides=2, padding="same", name="second"),
            layers.UpSampling2D(),
            layers.Dropout(0.5),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse", metrics=["mae"], **options)
    return model


def fit(model, *callbacks, epochs=1, **options):
    keras.utils.set_random_seed(1)
    targets = np.arange(len(IMAGES)) / 4
    return model.fit(
        IMAGES, targets, 4, epochs, verbose=0, callbacks=list(callbacks), **options
    )


def read_all(log_dir):
    """All events of a kind: `{"images": {tag: {step: value}}}` and so on."""
    events = EventAccumulator(
        str(log_dir / "feature_maps"), size_guidance={"tensors": 0}
    ).Reload()
    decode = {"images": picture, "histograms": histogram, "scalars": scalar}
    kinds = {kind: {} for kind in decode}
    for tag in events.Tags()["tensors"]:
        kind = events.summary_metadata[tag].plugin_data.plugin_name
        found = events.Tensors(tag)
        kinds[kind][tag] = {event.step: decode[kind](event) for event in found}
        assert len(kinds[kind][tag]) == len(found)
    return kinds


def read(log_dir):
    """Pictures and histograms of all tags: `{tag: {step: value}}`."""
    kinds = read_all(log_dir)
    return kinds["images"], kinds["histograms"]


def read_scalars(log_dir):
    return read_all(log_dir)["scalars"]


def all_steps(log_dir):
    """The steps that every single tag has."""
    kinds = read_all(log_dir).values()
    (steps,) = {tuple(steps) for tags in kinds for steps in tags.values()}
    return list(steps)


def picture(event):
    width, height, png = event.tensor_proto.string_val
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert pixels.shape == (int(height), int(width), 3)
    return pixels


def scalar(event):
    return float(tensor_util.make_ndarray(event.tensor_proto))


def histogram(event):
    return np.frombuffer(event.tensor_proto.tensor_content).reshape(-1, 3)


def maps_around(model, name, images):
    layer = model.get_layer(name)
    return keras.Model(model.inputs, [layer.input, layer.output]).predict(
        images, verbose=0
    )


def test_events_read_back_equal_a_direct_forward_pass(tmp_path):
    model = make_model()
    fit(model, PooledFeatureMaps(tmp_path, IMAGES, max_channels=3))
    pictures, histograms = read(tmp_path)
    sides = ("before", "after")
    tags = {f"{n}/{s}" for n in ("first", "second") for s in sides}
    assert set(pictures) == {*tags, "first/switches"}
    assert set(histograms) == {f"{tag}/histogram" for tag in tags}
    for name in ("first", "second"):
        maps = maps_around(model, name, IMAGES[:4])
        size = tiles.tile_size(maps[0].shape[1:-1])
        shown = tiles.active_channels(maps[0], 3)
        for side, x in zip(sides, maps, strict=True):
            if name == "second":  # Its channels are others than those before.
                shown = tiles.active_channels(x, 3)
            expected = tiles.picture(x[..., shown], size, shown)
            assert_alike(pictures[f"{name}/{side}"][0], expected)
            low, high, counts = histograms[f"{name}/{side}/histogram"][0].T
            np.testing.assert_allclose([low[0], high[-1]], [x.min(), x.max()], 1e-4)
            expected, _ = np.histogram(x, 30, range=(low[0], high[-1]))
            assert counts.sum() == x.size
            assert np.sum(np.abs(counts - expected)) <= 0.01 * x.size


def assert_alike(seen, expected):
    """Equal pictures, but for values that rounding moves to the next shade."""
    assert seen.shape == expected.shape
    different = np.abs(seen.astype(int) - expected).max(axis=-1) > 8
    assert np.mean(different) < 0.01


def test_diagnostics_read_back_equal_those_of_a_direct_forward_pass(tmp_path):
    model = make_model()
    fit(model, PooledFeatureMaps(tmp_path, IMAGES))
    scalars = read_scalars(tmp_path)
    numbers = {"dead_channels", "sparsity", "effective_channels", "aliasing"}
    numbers |= {"shift_consistency"}
    tags = {f"{name}/{n}" for name in ("first", "second") for n in numbers}
    assert set(scalars) == {*tags, "first/energy_kept", "feature_maps/seconds"}
    moved = np.roll(IMAGES[:4], (1, 1), (1, 2))
    for name in ("first", "second"):
        before, after = maps_around(model, name, IMAGES[:4])
        shifted = maps_around(model, name, moved)[1]
        strides = (2, 2) if name == "first" else (4, 4)  # of the image
        expected = {
            "dead_channels": diagnostics.dead_channels(after),
            "sparsity": diagnostics.sparsity(after),
            "effective_channels": diagnostics.effective_channels(after),
            "shift_consistency": diagnostics.shift_consistency(after, shifted, strides),
        }
        if name == "first":
            expected["energy_kept"] = diagnostics.energy_kept(before, after)
        for number, value in expected.items():
            seen = scalars[f"{name}/{number}"][0]
            assert seen == pytest.approx(value, abs=1e-4)


def test_aliasing_is_that_of_the_layer_without_its_stride(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.MaxPooling2D(), layers.Flatten()]
    )
    model.compile("sgd", "mse")
    images = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype("float32")
    maps = PooledFeatureMaps(tmp_path, images)
    model.fit(images, np.zeros((3, 16)), verbose=0, callbacks=[maps])
    around = np.concatenate([images, images[:, :1]], axis=1)
    around = np.concatenate([around, around[:, :, :1]], axis=2)
    dense = np.max(
        [around[:, i : i + 8, j : j + 8] for i in (0, 1) for j in (0, 1)], axis=0
    )
    (tag,) = [tag for tag in read_scalars(tmp_path) if "aliasing" in tag]
    expected = diagnostics.aliasing(dense, [2, 2])
    assert 0.1 < expected < 0.9
    assert read_scalars(tmp_path)[tag][0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("pool", "shape"),
    [
        (layers.MaxPooling1D(2, name="pool"), (11, 3)),
        (layers.MaxPooling2D(3, 2, "same", name="pool"), (7, 10, 2)),
        (MaxPooling(2, return_switches=True, name="pool"), (7, 10, 2)),
        (layers.MaxPooling3D(2, name="pool"), (5, 6, 7, 2)),
    ],
)
def test_switches_show_in_colour_what_pooling_keeps(tmp_path, pool, shape):
    x = keras.Input(shape)
    pooled = keras.tree.flatten(pool(x))[0]
    model = keras.Model(x, keras.ops.mean(pooled))
    model.compile("sgd", lambda y, z: keras.ops.sum(z))
    inputs = np.random.default_rng(0).permutation(4 * np.prod(shape))
    inputs = inputs.reshape(4, *shape).astype("float32")
    maps = PooledFeatureMaps(tmp_path, inputs, layers="pool")
    model.fit(inputs, np.zeros(4), verbose=0, callbacks=[maps])
    kept = np.isin(
        inputs, keras.ops.convert_to_numpy(keras.tree.flatten(pool(inputs))[0])
    )
    size, shown = tiles.tile_size(shape[:-1]), range(shape[-1])
    expected = tiles.picture(inputs, size, shown, kept)
    assert_alike(read(tmp_path)[0]["pool/switches"][0], expected)
    assert np.any(expected != tiles.picture(inputs, size, shown))


def test_same_channels_are_shown_in_every_epoch_and_fit(tmp_path):
    model, maps = make_model(), PooledFeatureMaps(tmp_path, IMAGES, max_channels=2)
    fit(model, maps)
    conv = model.layers[0]
    kernel = keras.ops.convert_to_numpy(conv.kernel)
    shown = maps._channels["first/before"]
    conv.kernel.assign(kernel * np.where(np.isin(range(6), shown), 1, 50))
    fit(model, maps, epochs=2, initial_epoch=1)
    assert maps._channels["first/before"] == shown
    before = maps_around(model, "first", IMAGES[:4])[0]
    assert tiles.active_channels(before, 2) != shown
    expected = tiles.picture(before[..., shown], (63, 56), shown)
    assert_alike(read(tmp_path)[0]["first/before"][1], expected)


def test_maps_are_those_at_the_end_of_each_epoch(tmp_path):
    model = make_model()
    fit(model, PooledFeatureMaps(tmp_path / "whole", IMAGES), epochs=3)
    pictures, _ = read(tmp_path / "whole")
    assert all_steps(tmp_path / "whole") == [0, 1, 2]
    short = make_model()
    fit(short, PooledFeatureMaps(tmp_path / "short", IMAGES), epochs=1)
    for tag, steps in read(tmp_path / "short")[0].items():
        assert_alike(steps[0], pictures[tag][0])
    assert np.any(pictures["second/after"][0] != pictures["second/after"][2])


def test_every_skips_epochs(tmp_path):
    fit(make_model(), PooledFeatureMaps(tmp_path, IMAGES, every=2), epochs=5)
    assert all_steps(tmp_path) == [0, 2, 4]


def test_steps_go_on_where_a_resumed_training_does(tmp_path):
    model, maps = make_model(), PooledFeatureMaps(tmp_path, IMAGES)
    fit(model, maps, epochs=2)
    fit(model, maps, epochs=4, initial_epoch=2)
    assert all_steps(tmp_path) == [0, 1, 2, 3]


def test_at_most_the_samples_and_channels_asked_for_are_drawn(tmp_path):
    maps = PooledFeatureMaps(tmp_path, IMAGES, max_samples=2, max_channels=5)
    fit(make_model(), maps)
    pictures, histograms = read(tmp_path)
    assert pictures["first/before"][0].shape == (37 + 2 * 67 + 11, 352, 3)
    assert pictures["second/after"][0].shape == (37 + 2 * 60 + 11, 352, 3)
    assert histograms["first/before/histogram"][0][:, 2].sum() == 2 * 9 * 8 * 6


def test_before_and_after_have_pictures_of_one_size(tmp_path):
    fit(make_model(), PooledFeatureMaps(tmp_path, IMAGES))
    pictures, _ = read(tmp_path)
    before, after = pictures["first/before"][0], pictures["first/after"][0]
    assert before.shape == after.shape


def test_training_is_the_same_with_and_without_the_maps(tmp_path):
    options = {"epochs": 2, "validation_split": 0.25}
    plain, watched = make_model(), make_model()
    expected = fit(plain, **options).history
    maps = PooledFeatureMaps(tmp_path, IMAGES)
    assert fit(watched, maps, **options).history == expected
    for one, other in zip(plain.weights, watched.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_can_be_chosen_by_name(tmp_path):
    maps = PooledFeatureMaps(tmp_path, IMAGES, layers=("second", "second"))
    fit(make_model(), maps)
    assert set(read(tmp_path)[0]) == {"second/before", "second/after"}


def test_layers_can_be_chosen_by_path_by_object_and_by_the_model_around_them(tmp_path):
    inner = keras.Sequential(
        [layers.MaxPooling2D(name="a"), layers.MaxPooling2D(name="b")], name="inner"
    )
    last = layers.AveragePooling2D(1, 1, name="last")
    model = keras.Sequential(
        [keras.Input((9, 8, 1)), inner, last, layers.Flatten(), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    for number, (chosen, names) in enumerate(
        [
            (["inner/b"], {"inner/b"}),
            (["b"], {"inner/b"}),
            ([last], {"last"}),
            ([inner], {"inner/a", "inner/b"}),
            ([last, "a"], {"last", "inner/a"}),
            ("inner/*", {"inner/a", "inner/b"}),
            (["[ab]", "las?"], {"inner/a", "inner/b", "last"}),
            (layers.AveragePooling2D, {"last"}),
            ([keras.Sequential], {"inner/a", "inner/b", "last"}),
            (lambda layer: layer.strides == (1, 1), {"last"}),
            ((layers.AveragePooling2D, "b"), {"inner/b", "last"}),
        ]
    ):
        log_dir = tmp_path / str(number)
        fit(model, PooledFeatureMaps(log_dir, IMAGES, layers=chosen))
        assert {tag.rpartition("/")[0] for tag in read(log_dir)[0]} == names


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}])
def test_maps_are_written_however_the_model_is_compiled(tmp_path, options):
    maps = PooledFeatureMaps(tmp_path, IMAGES, max_time=None)  # PyTorch compiles twice
    fit(make_model(**options), maps, epochs=2)
    assert all_steps(tmp_path) == [0, 1]


class Own(keras.Model):
    """A subclassed model of sequences, whose weights are made by its first call."""

    def __init__(self):
        super().__init__()
        self.parts = [layers.Conv1D(3, 2), layers.MaxPooling1D(name="pool")]
        self.head = layers.Dense(1)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return self.head(keras.ops.mean(x, axis=1))


def test_unbuilt_subclassed_model_is_shown_and_trains_the_same(tmp_path):
    sequences, histories, paths = IMAGES[..., 0], [], []
    for callbacks in [], [PooledFeatureMaps(tmp_path, sequences)]:
        keras.utils.set_random_seed(0)
        model = Own()
        model.compile("sgd", "mse")
        fitted = model.fit(sequences, np.zeros(12), verbose=0, callbacks=callbacks)
        histories.append(fitted.history)
        paths.append([weight.path for weight in model.weights])
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"])
    assert not any("probe" in path for path in paths[1])
    pictures, _ = read(tmp_path)
    maps = keras.ops.convert_to_numpy(model.parts[0](sequences[:4]))
    shown = range(3)
    assert_alike(pictures["pool/before"][0], tiles.picture(maps, (56, 56), shown))


def test_model_with_several_inputs_takes_a_nest(tmp_path):
    image, number = keras.Input((9, 8, 1), name="image"), keras.Input((1,), name="n")
    x = layers.GlobalMaxPooling2D()(layers.MaxPooling2D(name="pool")(image))
    model = keras.Model({"image": image, "n": number}, layers.Dense(1)(x + number))
    model.compile("sgd", "mse")
    inputs = {"image": IMAGES, "n": np.ones((12, 1))}
    maps = PooledFeatureMaps(tmp_path, inputs)
    model.fit(inputs, np.zeros(12), verbose=0, callbacks=[maps])
    expected = tiles.picture(IMAGES[:4], (63, 56), [0])
    np.testing.assert_array_equal(read(tmp_path)[0]["pool/before"][0], expected)


def test_data_set_gives_its_first_batch(tmp_path):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, IMAGES)).batch(3)
    fit(make_model(), PooledFeatureMaps(tmp_path, data))
    expected = maps_around(make_model(), "first", IMAGES[:3])[0]
    counts = read(tmp_path)[1]["first/before/histogram"][0][:, 2]
    assert counts.sum() == expected.size


def test_maps_that_became_nan_are_still_written(tmp_path):
    model = make_model()
    model.layers[2].bias.assign(np.full(4, np.nan))
    fit(model, PooledFeatureMaps(tmp_path, IMAGES))
    pictures, histograms = read(tmp_path)
    shown = pictures["second/after"][0][37:-15]
    assert set(np.unique(shown)) == {*drawing.CHECKS, drawing.PAPER}
    scalars = read_scalars(tmp_path)
    assert np.isnan(scalars["second/sparsity"][0])
    assert scalars["second/dead_channels"][0] == 1
    assert histograms["second/after/histogram"][0][:, 2].sum() == 0


def test_saved_model_reloads(tmp_path):
    model = make_model()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "inside.keras")
    fit(model, PooledFeatureMaps(tmp_path, IMAGES), checkpoint)
    model.save(tmp_path / "after.keras")
    for name in ("inside", "after"):
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        assert [layer.name for layer in loaded.layers] == [
            layer.name for layer in model.layers
        ]
        np.testing.assert_array_equal(
            loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0)
        )


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_interrupted_training_keeps_its_events_and_can_go_on(tmp_path):
    model, maps = make_model(), PooledFeatureMaps(tmp_path, IMAGES)
    with pytest.raises(KeyboardInterrupt):
        fit(model, maps, Interrupt(), epochs=4)
    assert all_steps(tmp_path) == [0, 1]
    fit(model, maps, epochs=4, initial_epoch=2)
    assert all_steps(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("interrupted", [False, True])
def test_files_are_closed_and_no_thread_is_left(tmp_path, interrupted):
    model, maps = make_model(), PooledFeatureMaps(tmp_path, IMAGES)
    threads = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                fit(model, maps, Interrupt(), epochs=4)
        fit(model, maps)
        gc.collect()
    assert not any("tfevents" in str(warning.message) for warning in caught)
    assert set(threading.enumerate()) <= threads
    held = [x for x in gc.get_objects() if isinstance(x, io.FileIO) and not x.closed]
    assert not any("tfevents" in str(getattr(x, "name", "")) for x in held)


def test_nothing_is_written_before_training(tmp_path):
    PooledFeatureMaps(tmp_path / "runs" / "one", IMAGES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["every", "max_samples", "max_channels"])
@pytest.mark.parametrize("value", [0, -1, True, 1.0, "2", None])
def test_counts_that_are_no_positive_ints_are_refused(tmp_path, name, value):
    with pytest.raises(
        ValueError, match=rf"`{name}` must be a positive int.*{value!r}"
    ):
        PooledFeatureMaps(tmp_path, IMAGES, **{name: value})


@pytest.mark.parametrize("value", [[], 3, [3], {"pool"}, [None], int, [dict]])
def test_layers_that_are_no_choice_of_layers_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match="`layers` must be None, or one or several"):
        PooledFeatureMaps(tmp_path, IMAGES, layers=value)


@pytest.mark.parametrize(
    "value",
    [
        "nothing",
        "dense",
        "up_sampling2d",
        "nothing_*",
        layers.Dense(2),
        layers.MaxPooling1D,
        lambda layer: False,
    ],
)
def test_choice_of_a_layer_that_does_not_pool_lists_those_that_do(tmp_path, value):
    model = make_model()
    value = {
        layer.name.rstrip("_0123456789"): layer.name for layer in model.layers
    }.get(value, value)
    maps = PooledFeatureMaps(tmp_path / "runs", IMAGES, layers=["first", value])
    with pytest.raises(ValueError, match=r"`layers` must name .*'first', 'second'"):
        fit(model, maps)
    assert list(tmp_path.iterdir()) == []


def test_model_without_pooling_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((9, 8, 1)), layers.Conv2D(1, 3)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a model with a layer that makes"):
        fit(model, PooledFeatureMaps(tmp_path / "runs", IMAGES))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["Sequential", "functional"])
@pytest.mark.parametrize("shape", [(4, 9, 8, 3), (4, 7), (4, 8, 9, 1), (4,)])
def test_inputs_that_do_not_suit_the_model_are_refused(tmp_path, kind, shape):
    model = make_model()
    if kind == "functional":
        model = keras.Model(model.inputs, model.outputs)
        model.compile("sgd", "mse")
    maps = PooledFeatureMaps(tmp_path / "runs", np.zeros(shape))
    expected = "`inputs` must suit the model, which takes the shape (None, 9, 8, 1)"
    rule = f"{expected}. Received: inputs of shape {shape}"
    with pytest.raises(ValueError, match=re.escape(rule)):
        fit(model, maps)
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_do_not_suit_a_subclassed_model_are_refused(tmp_path):
    model = Own()
    model.compile("sgd", "mse")
    maps = PooledFeatureMaps(tmp_path, IMAGES)
    rule = r"`inputs` must suit the model.* Received: inputs of shape \(4, 9, 8, 1\)"
    with pytest.raises(ValueError, match=rule):
        model.fit(IMAGES[..., 0], np.zeros(12), verbose=0, callbacks=[maps])


def test_log_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "feature_maps").touch()
    for log_dir in (tmp_path, tmp_path / "feature_maps"):
        with pytest.raises(NotADirectoryError, match="`log_dir` must be a folder"):
            PooledFeatureMaps(log_dir, IMAGES)


def test_log_dir_that_became_a_file_is_refused_when_training_begins(tmp_path):
    maps = PooledFeatureMaps(tmp_path / "run", IMAGES)
    (tmp_path / "run").touch()
    with pytest.raises(OSError, match="`log_dir`"):
        fit(make_model(), maps)
