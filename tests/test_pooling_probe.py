import keras
import numpy as np
import pytest
from keras import layers

import keras_cae
from keras_cae.callbacks.pooling_probe import (
    PoolingProbe,
    dense,
    moved_by_one,
    strides_of,
)
from keras_cae.callbacks.probe import find_pools, pool_called, run_once

IMAGES = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype("float32")


def seen_by(*parts, inputs=IMAGES):
    model = keras.Sequential([keras.Input(inputs.shape[1:]), *parts])
    (seen,) = run_once(model, find_pools(model), inputs, PoolingProbe)[1].values()
    return seen


@pytest.mark.parametrize(("rank", "strides"), [(1, (3,)), (2, (2, 3)), (3, (2, 1, 2))])
def test_phases_are_put_together_to_the_dense_maps(rank, strides):
    grid = (7, 6, 5)[:rank]
    maps = np.random.default_rng(0).normal(size=(2, *grid, 3))
    padding = [(0, -side % stride) for side, stride in zip(grid, strides, strict=True)]
    padded = np.pad(maps, [(0, 0), *padding, (0, 0)])
    phases = []
    for offset in np.ndindex(*strides):
        cells = map(slice, offset, [None] * rank, strides)
        phases.append(padded[(slice(None), *cells)])
    np.testing.assert_array_equal(dense(np.concatenate(phases), strides, grid), maps)


def test_phases_of_a_pooling_are_its_maps_without_a_stride():
    seen = seen_by(layers.AveragePooling2D((3, 2), (3, 2)))
    maps = dense(seen["phases"], (3, 2), (9, 8))
    np.testing.assert_allclose(maps[:, ::3, ::2], seen["after"], atol=1e-6)
    around = np.pad(IMAGES, ((0, 0), (0, 2), (0, 1), (0, 0)), mode="wrap")
    expected = [around[:, i : i + 9, j : j + 8] for i in range(3) for j in range(2)]
    np.testing.assert_allclose(maps, np.mean(expected, axis=0), atol=1e-5)


def test_kept_are_the_first_maxima_of_the_windows():
    inputs = np.zeros((1, 4, 4, 1), "float32")
    inputs[0, 1, 2] = 1
    kept = seen_by(layers.MaxPooling2D(), inputs=inputs)["kept"]
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(kept[0, ..., 0], expected)


def test_only_max_pooling_keeps_values_and_only_strides_have_phases():
    assert set(seen_by(layers.AveragePooling2D(2))) == {"before", "after", "phases"}
    assert set(seen_by(layers.Conv2D(3, 3, 2))) == {"before", "after", "phases"}
    assert set(seen_by(layers.MaxPooling2D(3, 1))) == {"before", "after", "kept"}
    assert set(seen_by(layers.Conv2D(3, 5, 5))) == {"before", "after"}


def test_strides_of_layers_of_all_sorts():
    assert strides_of(layers.MaxPooling2D((2, 3)), 2) == (2, 3)
    assert strides_of(layers.Conv1D(1, 2, strides=4), 1) == (4,)
    assert strides_of(keras_cae.layers.MaxPooling(3), 3) == (3, 3, 3)
    assert strides_of(keras_cae.layers.MaxPooling(3, strides=(1, 2)), 2) == (1, 2)
    assert strides_of(layers.Dense(1), 2) == (0, 0)


def test_images_are_moved_around_the_border_and_the_rest_is_left():
    nest = {"image": IMAGES, "label": np.ones((2, 1))}
    moved = moved_by_one(nest, "channels_last")
    np.testing.assert_array_equal(moved["image"][:, 1:, 1:], IMAGES[:, :-1, :-1])
    np.testing.assert_array_equal(moved["image"][:, 0, 1:], IMAGES[:, -1, :-1])
    np.testing.assert_array_equal(moved["label"], nest["label"])
    first = moved_by_one(np.moveaxis(IMAGES, -1, 1), "channels_first")
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), moved["image"])


def test_maps_of_a_later_call_belong_to_the_same_pooling():
    pool = layers.MaxPooling2D(name="pool_2")
    model = keras.Sequential([keras.Input((9, 8, 3)), pool])
    pools = find_pools(model)
    assert pool_called("pool_2", pools).layer is pool
    assert pool_called("pool_2_2", pools).layer is pool
