import keras
import numpy as np
import pytest

from keras_cae.callbacks.samples import first_samples, shapes

IMAGES = np.arange(24.0).reshape(6, 2, 2, 1)


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_first_samples_of_an_array_are_a_copy_of_their_own(dtype):
    images = IMAGES.astype(dtype)
    samples = first_samples(images, 4)
    images[:] = 0
    assert samples.dtype == (dtype if dtype == "uint8" else keras.config.floatx())
    np.testing.assert_array_equal(samples, IMAGES[:4])


def test_fewer_samples_than_asked_for_are_all_taken():
    assert len(first_samples(IMAGES, 100)) == 6


def test_tensors_are_taken():
    samples = first_samples(keras.ops.convert_to_tensor(IMAGES), 2)
    assert isinstance(samples, np.ndarray)
    np.testing.assert_array_equal(samples, IMAGES[:2])


def test_nest_of_arrays_keeps_its_structure():
    samples = first_samples({"a": IMAGES, "b": [IMAGES, 2 * IMAGES]}, 1)
    assert shapes(samples) == [(1, 2, 2, 1)] * 3
    np.testing.assert_array_equal(samples["b"][1], 2 * IMAGES[:1])


@pytest.mark.parametrize(
    "batch",
    [IMAGES, (IMAGES,), (IMAGES, 0 * IMAGES), (IMAGES, 0 * IMAGES, np.ones(6))],
    ids=["input", "tuple", "target", "weights"],
)
@pytest.mark.parametrize("kind", [Batches, iter], ids=["PyDataset", "iterator"])
def test_input_of_the_first_batch_of_a_data_set_is_taken(kind, batch):
    samples = first_samples(kind([batch, None]), 4)
    np.testing.assert_array_equal(samples, IMAGES[:4])


def test_first_batch_of_a_tensorflow_data_set_is_taken():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(({"a": IMAGES, "b": -IMAGES}, IMAGES))
    samples = first_samples(data.batch(3).repeat(), 4)
    assert shapes(samples) == [(3, 2, 2, 1)] * 2
    np.testing.assert_array_equal(samples["b"], -IMAGES[:3])


@pytest.mark.parametrize(
    "inputs",
    [IMAGES[:0], {"a": IMAGES, "b": IMAGES[:5]}, [IMAGES[:0], IMAGES[:0]]],
    ids=["none", "unequal", "nests"],
)
def test_arrays_without_samples_or_unequally_long_are_refused(inputs):
    with pytest.raises(ValueError, match="`inputs` must hold at least one sample"):
        first_samples(inputs, 4)


@pytest.mark.parametrize("inputs", [Batches([]), iter([]), Batches([IMAGES[:0]])])
def test_data_sets_without_samples_are_refused(inputs):
    with pytest.raises(ValueError, match="`inputs` must hold at least one sample"):
        first_samples(inputs, 4)


@pytest.mark.parametrize("inputs", [None, 3, "digits", [], {}, [1, 2], np.float32(1)])
def test_what_holds_no_arrays_is_refused(inputs):
    with pytest.raises(ValueError, match=r"`inputs` must be an array.*type"):
        first_samples(inputs, 4)
