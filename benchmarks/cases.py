"""The nets that are compared, as numbers: every framework builds its own from them."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """An autoencoder and the batch it is trained on.

    Args:
        shape: Height, width and channels of an image; the sides in pixels.
        filters: The channels of each encoder block.
        batch: Images a step.
    """

    shape: tuple[int, int, int]
    filters: tuple[int, ...]
    batch: int

    def __str__(self) -> str:
        sides = "x".join(map(str, self.shape))
        return (
            f"{sides}, filters {'-'.join(map(str, self.filters))}, batch {self.batch}"
        )

    def images(self, batch: int | None = None) -> np.ndarray:
        """Random blobs of 4x4 pixels: something to be learned, always the same."""
        height, width, channels = self.shape
        coarse = (batch or self.batch, height // 4, width // 4, channels)
        values = np.random.default_rng(0).uniform(size=coarse).astype("float32")
        return values.repeat(4, axis=1).repeat(4, axis=2)

    def decoder_filters(self) -> tuple[int, ...]:
        """The channels of each decoder block, from the latent to the image."""
        return tuple(reversed((self.filters[0], *self.filters[:-1])))


SMALL = Case((28, 28, 1), (32, 64), 128)
LARGE = Case((96, 96, 3), (32, 64, 128), 16)
