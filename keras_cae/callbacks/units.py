"""What the units of a latent do: which of them vary, and which vary together."""

from typing import Any

import numpy as np

ACTIVE = 0.01


@np.errstate(all="ignore")
def variances(latents: Any) -> Any:
    """How much each unit varies over the samples; a unit is a channel.

    Where the latent has a grid, the variance is that of each cell over the samples,
    averaged over the cells.

    Args:
        latents: `(samples, ..., units)`.
    """
    return np.mean(_deviations(latents) ** 2, axis=0)


def active(latents: Any) -> Any:
    """Whether the variance of each unit over the samples is above 0.01.

    For a variational encoder give the means, not samples of the posterior.

    Example:
        >>> active(np.array([[0.0, 5.0, 0.05], [1.0, 5.0, 0.10]]))
        array([ True, False, False])

    Reference:
        Burda et al. (2016), [Importance weighted
        autoencoders](https://arxiv.org/abs/1509.00519), section 5.
    """
    return variances(latents) > ACTIVE


@np.errstate(all="ignore")
def correlations(latents: Any) -> Any:
    """Pearson's correlation of each two units, NaN where one of them is constant.

    Where the latent has a grid, it is taken over the cells of all samples, of what
    differs from the mean of that cell.

    Example:
        >>> correlations(np.array([[0.0, 1.0], [1.0, -1.0], [2.0, -3.0]]))
        array([[ 1., -1.],
               [-1.,  1.]])
    """
    latents = np.asarray(latents, "float64")
    deviations = _deviations(latents)
    lengths = np.sqrt(np.sum(deviations**2, axis=0))
    # What differs by no more than rounding counts as constant.
    sizes = np.abs(latents).reshape(-1, latents.shape[-1])
    varies = lengths > 1e-6 * np.max(sizes, axis=0) * np.sqrt(len(sizes))
    directions = deviations / np.where(varies, lengths, np.nan)
    return np.clip(directions.T @ directions, -1, 1)


def mean_correlation(matrix: Any) -> float:
    """The mean absolute correlation of two different units, NaN where there are none.

    Example:
        >>> mean_correlation(np.array([[1.0, -0.5], [-0.5, 1.0]]))
        0.5
    """
    pairs = np.abs(matrix[np.triu_indices(len(matrix), 1)])
    pairs = pairs[np.isfinite(pairs)]
    return float(pairs.mean()) if pairs.size else float("nan")


@np.errstate(all="ignore")
def _deviations(latents: Any) -> Any:
    """What differs from the mean over the samples, `(samples * cells, units)`."""
    latents = np.asarray(latents, "float64")
    deviations = latents - np.mean(latents, axis=0)
    return deviations.reshape(-1, latents.shape[-1])
