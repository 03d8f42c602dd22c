"""The input guard: says whether an image is of the kind that the package was made for.

The network's own features say so: the Mahalanobis distance of their mean from that of the training images, with a
shrunk covariance. Lee 2018, "A simple unified framework for detecting out-of-distribution samples".
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineOutputError, PackageError

EMBEDDING = "embedding"  # the network's output that the guard looks at


@dataclass(frozen=True, slots=True)
class Guard:
    """mean: float32 (D,) of the training images' embeddings; whitening: float32 (D, D); limit: distances beyond refuse.

    The distance of an embedding e is the length of whitening @ (e - mean).
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    limit: float

    def distances(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (N,) for embeddings (N, D). Raises EngineOutputError."""
        if embeddings.ndim != 2 or embeddings.shape[1] != len(self.mean) or not np.isfinite(embeddings).all():  # noqa: PLR2004 - N, D
            raise EngineOutputError(
                f"the output {EMBEDDING!r} has shape {embeddings.shape}, or values that are not finite;"
                f" expected (N, {len(self.mean)})"
            )
        return np.asarray(np.linalg.norm((embeddings - self.mean) @ self.whitening.T, axis=1), np.float32)

    def refusal(self, embedding: NDArray[np.float32]) -> str:
        """Why the image of an embedding (D,) is refused, a sentence for the report; empty where it is not."""
        distance = float(self.distances(embedding[None])[0])
        if distance <= self.limit:
            return ""
        return (
            "The image does not look like the mammograms that the model was made for:"
            f" its features lie {distance / self.limit:.2f} times as far from theirs as is accepted."
        )


def fit_guard(embeddings: NDArray[np.float32], shrinkage: float) -> Guard:
    """A guard without a limit (infinite) from training images' embeddings (N, D), D < N or not.

    shrinkage: 0..1, of the correlation towards none at all.
    """
    wide = embeddings.astype(np.float64)
    mean, spread = wide.mean(axis=0), wide.std(axis=0) + 1e-6
    scaled = (wide - mean) / spread
    correlation = scaled.T @ scaled / len(scaled)
    shrunk = (1 - shrinkage) * correlation + shrinkage * np.eye(len(correlation))
    root = np.linalg.cholesky(np.linalg.inv(shrunk)).T
    return Guard(mean.astype(np.float32), (root / spread).astype(np.float32), float("inf"))


def guard_bytes(guard: Guard) -> bytes:
    """The file's content; the limit stands in the manifest."""
    stream = io.BytesIO()
    np.savez_compressed(stream, mean=guard.mean, whitening=guard.whitening)
    return stream.getvalue()


def read_guard(file: Path, limit: float) -> Guard:
    """The guard in a file of guard_bytes. Raises PackageError."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            mean, whitening = stored["mean"], stored["whitening"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PackageError(f"the input guard {file} cannot be read: {error}") from error
    size = mean.shape[0] if mean.ndim == 1 else 0
    if not size or whitening.shape != (size, size) or {mean.dtype, whitening.dtype} != {np.dtype(np.float32)}:
        raise PackageError(f"the input guard {file} holds arrays of the wrong shape or type")
    return Guard(mean, whitening, limit)
