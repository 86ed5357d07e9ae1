"""How near reconstructions come to their targets: PSNR and SSIM of each sample."""

from typing import Any

import numpy as np

BEST = 100.0  # dB; what a reconstruction without any error gets.
WINDOW = 11  # pixels
SIGMA = 1.5  # pixels


@np.errstate(all="ignore")
def psnr(targets: Any, outputs: Any, peak: float) -> Any:
    """The peak signal-to-noise ratio of each sample, at most 100 dB.

    `10 log10(peak² / MSE)`, where MSE is the mean squared error over the sample.

    Args:
        targets: The originals, `(samples, ...)`.
        outputs: Their reconstructions, likewise.
        peak: How far the values may reach: 1 for images in [0, 1].

    Example:
        >>> psnr(np.ones((1, 4, 4, 1)), np.full((1, 4, 4, 1), 0.9), peak=1.0)
        array([20.])
    """
    errors = np.asarray(outputs, "float64") - np.asarray(targets, "float64")
    mean = np.mean(errors**2, axis=tuple(range(1, errors.ndim)))
    least = peak**2 * 10 ** (-BEST / 10)
    return 10 * np.log10(peak**2 / np.maximum(mean, least))


@np.errstate(all="ignore")
def ssim(targets: Any, outputs: Any, peak: float) -> Any:
    """The structural similarity of each image, at most 1; None where it has none.

    Means, variances and covariance are taken in every whole window of 11x11 pixels,
    weighted by a Gaussian of standard deviation 1.5 pixels, and the similarity is
    averaged over windows and channels, as in `keras.ops.image.ssim`. For an image with
    a side below 11 pixels the window has the largest odd number of them that fits; one
    with a side below 3 has no SSIM, and neither has a sequence or a volume.

    Args:
        targets: The original images, `(samples, height, width, channels)`.
        outputs: Their reconstructions, likewise.
        peak: How far the values may reach: 1 for images in [0, 1].

    Example:
        >>> image = np.random.default_rng(0).uniform(size=(1, 16, 16, 3))
        >>> ssim(image, image, peak=1.0)
        array([1.])

    Reference:
        Wang et al. (2004), [Image quality assessment: from error visibility to
        structural similarity](https://doi.org/10.1109/TIP.2003.819861).
    """
    x, y = np.asarray(targets, "float64"), np.asarray(outputs, "float64")
    if x.ndim != 4 or min(x.shape[1:3]) < 3:
        return None
    weights = _gaussian(min(WINDOW, *(side - 1 + side % 2 for side in x.shape[1:3])))
    # One by one: all together would take many times the memory of the images.
    pairs = zip(x, y, strict=True)
    return np.array([_similarity(*pair, weights, peak) for pair in pairs])


def _similarity(x: Any, y: Any, weights: Any, peak: float) -> float:
    mean_x, mean_y = _blurred(x, weights), _blurred(y, weights)
    variance_x = _blurred(x * x, weights) - mean_x**2
    variance_y = _blurred(y * y, weights) - mean_y**2
    covariance = _blurred(x * y, weights) - mean_x * mean_y
    small, smaller = (0.03 * peak) ** 2, (0.01 * peak) ** 2
    light = (2 * mean_x * mean_y + smaller) / (mean_x**2 + mean_y**2 + smaller)
    structure = (2 * covariance + small) / (variance_x + variance_y + small)
    return float(np.mean(light * structure))


def _gaussian(size: int) -> Any:
    places = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(places**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _blurred(image: Any, weights: Any) -> Any:
    """The weighted mean in every whole window, along the height, then the width."""
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(image, len(weights), axis)
        image = windows @ weights
    return image
