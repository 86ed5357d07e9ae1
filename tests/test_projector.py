import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from keras_cae.callbacks.projector import (
    sprite,
    thumbnails,
    write_projector,
    write_vectors,
)

VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def config(folder):
    text = (folder / "projector_config.pbtxt").read_text()
    (embedding,) = text_format.Parse(text, ProjectorConfig()).embeddings
    return embedding


def test_vectors_are_read_back_without_loss(tmp_path):
    write_vectors(tmp_path, VECTORS)
    write_projector(tmp_path, 5)
    rows = (tmp_path / config(tmp_path).tensor_path).read_text().splitlines()
    read = np.array([[float(x) for x in row.split("\t")] for row in rows])
    np.testing.assert_array_equal(read.astype("float32"), VECTORS)


@pytest.mark.parametrize("numbers", [1, 2])
def test_vectors_have_three_numbers_or_more(tmp_path, numbers):
    write_vectors(tmp_path, VECTORS[:, :numbers])
    read = np.loadtxt(tmp_path / "latent.tsv", dtype="float32")
    np.testing.assert_array_equal(read[:, :numbers], VECTORS[:, :numbers])
    assert read.shape == (5, 3)
    assert not read[:, numbers:].any()


def test_samples_without_labels_have_their_index(tmp_path):
    write_projector(tmp_path, 5)
    text = (tmp_path / config(tmp_path).metadata_path).read_text()
    assert text == "0\n1\n2\n3\n4\n"


def test_labels_stay_on_one_line_each(tmp_path):
    write_projector(tmp_path, 5, ["a\tb", b"c", "d\ne", 4, ""])
    lines = (tmp_path / "metadata.tsv").read_text().splitlines()
    assert lines == ["label\tindex", "a b\t0", "c\t1", "d e\t2", "4\t3", "\t4"]


@pytest.mark.parametrize("shape", [(5, 7, 4), (5, 7, 4, 3)], ids=str)
def test_sprite_holds_the_images_row_by_row(tmp_path, shape):
    images = np.random.default_rng(1).integers(0, 256, shape, "uint8")
    write_projector(tmp_path, 5, images=images)
    entry = config(tmp_path).sprite
    width, height = entry.single_image_dim
    assert (height, width) == (7, 4)
    image = Image.open(tmp_path / entry.image_path)
    pixels = np.asarray(image.convert("RGB" if len(shape) == 4 else "L"))
    assert pixels.shape[:2] == (21, 12)
    for index, image in enumerate(images):
        row, column = divmod(index, pixels.shape[1] // width)
        place = pixels[row * 7 : row * 7 + 7, column * 4 : column * 4 + 4]
        np.testing.assert_array_equal(place, image)


def test_no_images_no_sprite(tmp_path):
    write_projector(tmp_path, 5)
    assert not config(tmp_path).HasField("sprite")
    assert not (tmp_path / "sprite.png").exists()


@pytest.mark.parametrize(("count", "side"), [(9, 64), (40000, 40)])
def test_sprite_is_never_larger_than_tensorboard_takes(count, side):
    images = np.zeros((1, 640, 320), "uint8")
    small = thumbnails(images, count)
    assert small.shape[1] <= side
    assert max(sprite(small).shape) * np.ceil(np.sqrt(count)) <= 8192


def test_writing_again_replaces_what_was_there(tmp_path):
    for count in (5, 2):
        write_vectors(tmp_path, VECTORS[:count])
        write_projector(tmp_path, count)
    assert len((tmp_path / "latent.tsv").read_text().splitlines()) == 2
    assert len((tmp_path / "metadata.tsv").read_text().splitlines()) == 2
    assert len(list(tmp_path.iterdir())) == 3
