from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.base import Analysed, EngineDescription, Refused
from engines.decode import DecodeSettings
from engines.detector import Detector
from engines.errors import EngineOutputError, PackageError
from engines.guard import Guard, fit_guard, guard_bytes, read_guard
from engines.manifest import GuardFile
from engines.package import find_package, load_package
from tests.engines.phantom import phantom
from tests.engines.test_detector import ScriptedBackend


def _cloud(count: int = 400, size: int = 6) -> NDArray[np.float32]:
    """Correlated normal points."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(size, size))
    return (rng.normal(size=(count, size)) @ mixing + 3.0).astype(np.float32)


def test_distances_are_those_of_mahalanobis() -> None:
    """Without shrinkage the distance is the textbook's."""
    cloud = _cloud()
    away = cloud[:5].astype(np.float64) + 1.0 - cloud.mean(axis=0)
    inverse = np.linalg.inv(np.cov(cloud.T, bias=True))
    expected = np.sqrt(np.einsum("ij,jk,ik->i", away, inverse, away))
    np.testing.assert_allclose(fit_guard(cloud, 0.0).distances(cloud[:5] + 1.0), expected, rtol=1e-3)


def test_shrinkage_copes_with_fewer_images_than_features() -> None:
    """Ten images of forty features: distances are finite, and larger off the cloud than on it."""
    cloud = _cloud(10, 40)
    guard = fit_guard(cloud, 0.1)
    assert np.isfinite(guard.distances(cloud)).all()
    assert guard.distances(cloud + 40.0).min() > guard.distances(cloud).max()


def test_a_guard_comes_back_from_its_file(tmp_path: Path) -> None:
    """Written and read, it has the same distances, and the manifest's limit."""
    guard = fit_guard(_cloud(), 0.1)
    file = tmp_path / "guard.npz"
    file.write_bytes(guard_bytes(guard))
    back = read_guard(file, 7.5)
    assert back.limit == 7.5
    np.testing.assert_array_equal(back.distances(_cloud()), guard.distances(_cloud()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish" * 40,
        guard_bytes(Guard(np.zeros(3, np.float32), np.eye(4, dtype=np.float32), 1.0)),
        guard_bytes(Guard(np.zeros(3, np.float64), np.eye(3, dtype=np.float32), 1.0)),  # type: ignore[arg-type]  # wrong on purpose
    ],
    ids=["empty", "rubbish", "shapes", "type"],
)
def test_a_damaged_guard_is_a_package_error(tmp_path: Path, content: bytes) -> None:
    """Whatever is wrong with the file, the error names it."""
    file = tmp_path / "guard.npz"
    file.write_bytes(content)
    with pytest.raises(PackageError, match=r"guard\.npz"):
        read_guard(file, 1.0)


@dataclass
class Feeling(ScriptedBackend):
    """A scripted backend whose embedding is given; None has none."""

    embedding: tuple[float, ...] | None = None

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """The scripted maps and the embedding."""
        outputs = dict(super().run(batch))
        if self.embedding is not None:
            outputs["embedding"] = np.array([self.embedding], np.float32)
        return outputs


def _detector(embedding: tuple[float, ...] | None) -> Detector:
    package = load_package(find_package("mammo-mass"))
    backend = Feeling(40, 10, embedding=embedding)
    description = EngineDescription(package.name, package.version, "", "scripted", "fp32", "")
    guard = Guard(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), 5.0)
    plain = replace(package, manifest=replace(package.manifest, threshold=0.5, decode=DecodeSettings()))
    return Detector(plain, backend, description, guard)


def test_the_limit_parts_the_strange_from_the_usual() -> None:
    """At the limit an image is analysed, beyond it is refused with how far it is."""
    (near,) = _detector((3.0, 4.0)).analyse([phantom()])
    (far,) = _detector((6.0, 8.0)).analyse([phantom()])
    assert isinstance(near, Analysed)
    assert isinstance(far, Refused)
    assert far.reason.endswith("2.00 times as far from theirs as is accepted.")


@pytest.mark.parametrize("embedding", [None, (1.0, 2.0, 3.0), (float("nan"), 0.0)], ids=["none", "size", "nan"])
def test_a_network_that_does_not_fit_its_guard_is_an_error(embedding: tuple[float, ...] | None) -> None:
    """No embedding, one of another size or one that is not finite: never silently accepted."""
    with pytest.raises(EngineOutputError, match="embedding"):
        _detector(embedding).analyse([phantom()])


def test_weights_may_have_a_limit_of_their_own(tmp_path: Path) -> None:
    """Rounded weights move features: their limit stands for the guard's, and only for them."""
    package = load_package(find_package("mammo-mass"))
    (tmp_path / "guard.npz").write_bytes(guard_bytes(fit_guard(_cloud(), 0.1)))
    exact = replace(package.weights(), guard_limit=None)
    rough = replace(exact, precision="int8", guard_limit=9.0)
    manifest = replace(package.manifest, guard=GuardFile("guard.npz", "0" * 64, 7.0), weights=(exact, rough))
    changed = replace(package, folder=tmp_path, manifest=manifest)
    limits = [guard.limit for name in ("fp32", "int8") if (guard := changed.guard(name)) is not None]
    assert limits == [7.0, 9.0]
