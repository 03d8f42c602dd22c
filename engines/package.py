"""Model packages: a folder with manifest.json, the weights and a model card."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from engines.decode import DecodeSettings
from engines.errors import PackageError
from engines.guard import Guard, read_guard
from engines.manifest import Calibration, Label, Manifest, RegionManifest, Weights, parse_manifest
from engines.onnx_file import outside_files
from engines.preprocess import PreprocessSettings

MANIFEST_NAME = "manifest.json"
SHIPPED = Path(__file__).parent / "models"


@dataclass(frozen=True, slots=True)
class RegionPackage:
    """A package without weights: the rules in its manifest are all of it."""

    folder: Path
    manifest: RegionManifest

    @property
    def labels(self) -> tuple[Label, ...]:
        """Kinds of finding with their codes."""
        return self.manifest.labels


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A detector's package whose manifest is valid and whose weights are those that the manifest means."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """As "mammo-mass"."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """As "0.1.0"."""
        return self.manifest.version

    @property
    def modalities(self) -> tuple[str, ...]:
        """DICOM modalities that the package was made for, as ("MG",)."""
        return self.manifest.modalities

    @property
    def views(self) -> tuple[str, ...]:
        """Views that the package was made for, as ("CC", "MLO")."""
        return self.manifest.views

    @property
    def labels(self) -> tuple[Label, ...]:
        """Kinds of finding with their codes."""
        return self.manifest.labels

    @property
    def threshold(self) -> float:
        """Calibrated score at and above which a finding is reported."""
        return self.manifest.threshold

    @property
    def decode(self) -> DecodeSettings:
        """How raw maps become findings."""
        return self.manifest.decode

    @property
    def preprocess(self) -> PreprocessSettings:
        """How an image becomes a network input."""
        return self.manifest.preprocess

    @property
    def score_calibration(self) -> Calibration:
        """Of the score."""
        return self.manifest.score_calibration

    @property
    def malignancy_calibration(self) -> Calibration:
        """Of the malignancy."""
        return self.manifest.malignancy_calibration

    @property
    def model_card(self) -> Path:
        """The model card's file."""
        return self.folder / self.manifest.model_card

    def guard(self, precision: str = "fp32") -> Guard | None:
        """The input guard for the weights that run, None where the package has none. Raises PackageError."""
        meant = self.manifest.guard
        limit = self.weights(precision).guard_limit
        return read_guard(self.folder / meant.file, limit or meant.limit) if meant else None

    def weights(self, precision: str = "fp32") -> Weights:
        """The variant of that precision. Raises PackageError where the package has none."""
        for item in self.manifest.weights:
            if item.precision == precision:
                return item
        has = ", ".join(item.precision for item in self.manifest.weights)
        raise PackageError(f"the package {self.name} {self.version} has no {precision} weights; it has {has}")


def shipped_packages() -> tuple[str, ...]:
    """Names of the packages that come with the node."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST_NAME}")))


def find_package(name_or_path: str) -> Path:
    """The folder of a shipped package by its name, or of any package by its path. Raises PackageError."""
    for folder in (SHIPPED / name_or_path, Path(name_or_path).expanduser()):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    shipped = ", ".join(shipped_packages()) or "none"
    raise PackageError(
        f"no model package {name_or_path!r}: neither a folder with {MANIFEST_NAME} nor shipped ({shipped})"
    )


def manifest_sha256(folder: Path) -> str:
    """Hex digest of a package's manifest, which names its weights by theirs: of all that the package is."""
    return hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()


def load_package(path: Path) -> ModelPackage:
    """A detector's package. Raises PackageError: as load_any_package, or it is of another kind."""
    package = load_any_package(path)
    if isinstance(package, RegionPackage):
        raise PackageError(f"{path} is a {package.manifest.engine} package, where a detector is needed")
    return package


def load_any_package(path: Path) -> ModelPackage | RegionPackage:
    """Read and verify a package. Raises PackageError: no manifest, a bad one, files missing or not the meant ones."""
    origin = path / MANIFEST_NAME
    try:
        text = origin.read_bytes()
    except OSError as error:
        raise PackageError(f"{origin} cannot be read: {error.strerror}") from error
    manifest = parse_manifest(text, str(origin))
    if isinstance(manifest, Manifest):
        for item in manifest.weights:
            _verify("weights", path / item.file, item.sha256)
            _check_whole(path / item.file)
        if manifest.guard:
            _verify("input guard", path / manifest.guard.file, manifest.guard.sha256)
    if not (path / manifest.model_card).is_file():
        raise PackageError(f"{path / manifest.model_card} is missing: a package carries its model card")
    return ModelPackage(path, manifest) if isinstance(manifest, Manifest) else RegionPackage(path, manifest)


def _check_whole(file: Path) -> None:
    """Raise PackageError where weights lie in another file: no digest covers it, so nobody would see it change."""
    if others := outside_files(file):
        raise PackageError(
            f"{file} keeps weights in {', '.join(sorted(others))}, which its checksum does not cover: put them inside"
            " (external_data=False of torch.onnx.export, or onnx.save(onnx.load(FILE), FILE), then the new checksum)"
        )


def _verify(what: str, file: Path, meant: str) -> None:
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise PackageError(f"the {what} {file} cannot be read: {error.strerror}") from error
    if digest != meant.lower():
        raise PackageError(f"{file} has SHA-256 {digest}, the manifest says {meant}: install the package again")
