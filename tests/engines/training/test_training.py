import csv
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data

from engines.annotations import read_annotations
from engines.base import Analysed
from engines.errors import DataError
from engines.evaluation.pool import Judged
from engines.factory import open_engine
from engines.manifest import CancerProbability
from engines.networks.efficientnet_lite import imagenet_backbone
from engines.networks.one_stage import OneStageDetector
from engines.networks.two_stage import TwoStageDetector
from engines.onnx import open_onnx
from engines.package import load_package
from engines.preprocess import to_batch
from engines.training import evaluate, probability
from engines.training.cases import read_cases, split_by_patient
from engines.training.command import main
from engines.training.export import export_onnx
from engines.training.loop import Network
from engines.training.start import start_from, two_stages
from tests.engines.phantom import Blob, phantom
from tests.support.small_network import write_package

ROWS, COLUMNS = 400, 240
SHORT = ["--batch", "2", "--validate-every", "1", "--iterations", "2", "--region-iterations", "2"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten phantoms of ten patients, one mass each."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["image,patient,laterality,view,x_px,y_px,w_px,h_px,pathology,orig_width_est,orig_height_est"]
    for number in range(10):
        side = "left" if number % 2 else "right"
        x, y = (80 if side == "left" else COLUMNS - 80), 150 + 10 * number
        image = phantom(ROWS, COLUMNS, side, [Blob(x, y, 16, 0.5)], seed=number)
        cv2.imwrite(str(folder / f"{number}.png"), (image.pixels * 255).astype(np.uint8))
        pathology = "MALIGNANT" if number % 3 else "BENIGN"
        lines.append(f"{number}.png,P{number},L,CC,{x - 12},{y - 12},24,24,{pathology},{COLUMNS},{ROWS}")
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two batches of each stage, interrupted by its own limit in either stage and resumed, to the package."""
    out = tmp_path_factory.mktemp("out")
    common = ["--data", str(images), "--out", str(out), *SHORT]
    assert main([*common, "--stop-after", "1"]) == 0
    assert main([*common, "--stop-after", "3", "--resume"]) == 0
    assert not (out / "mammo-mass").exists()
    assert main([*common, "--resume", "--version", "0.0.9"]) == 0
    return out


def test_one_command_leads_from_images_to_a_package(trained: Path, images: Path) -> None:
    """Logs of both stages, curves, evaluation, the table of test patients and a package that loads and runs."""
    for stage in ("one-stage", "two-stage"):
        with (trained / stage / "log.csv").open() as lines:
            validated = [row["iteration"] for row in csv.DictReader(lines) if row["validation"]]
        assert validated == ["1", "2"]
    assert {"one-stage.png", "two-stage.png", "froc.png"} <= {path.name for path in trained.glob("*.png")}
    package = load_package(trained / "mammo-mass")
    assert package.version == "0.0.9"
    evaluation = json.loads((package.folder / "evaluation.json").read_text())
    (tested,) = read_annotations(trained / "test.csv", images)
    assert tested in split_by_patient(read_cases(images), 0)["test"]
    assert evaluation["probability_of_cancer"] is package.manifest.probability_of_cancer is None  # one lesion
    assert "## Probability of cancer" not in package.model_card.read_text()
    assert set(evaluation["test"]["froc"]) == {"0.25", "0.5", "1", "2", "4"}
    assert set(evaluation["filters"]) == {"none", "gaussian", "median", "bilateral"}
    assert len(evaluation["networks"]) == 5
    (outcome,) = open_engine(package, "onnxruntime", 1).analyse([phantom(ROWS, COLUMNS)])
    assert isinstance(outcome, Analysed)


@pytest.mark.parametrize("kind", ["one-stage", "two-stage"])
def test_the_exported_network_is_the_trained_one(trained: Path, tmp_path: Path, kind: str) -> None:
    """PyTorch and ONNX Runtime give the same outputs for the trained weights; the file names no path."""
    network = (OneStageDetector() if kind == "one-stage" else TwoStageDetector()).eval()
    network.load_state_dict(torch.load(trained / kind / "best.pt", weights_only=True))
    export_onnx(network, 128, 96, tmp_path / "network.onnx")
    assert b"engines/networks" not in (tmp_path / "network.onnx").read_bytes()
    batch = np.random.default_rng(0).normal(0, 0.5, (1, 3, 128, 96)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch))._asdict()
    proposed = kind == "two-stage"  # of proposals the best ones: those that only fill up may come in any order
    for name, values in open_onnx(tmp_path / "network.onnx", "fp32", 1).run(batch).items():
        some = slice(8) if proposed and name != "embedding" else slice(None)
        np.testing.assert_allclose(values[:, some], expected[name].numpy()[:, some], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["one-stage", "two-stage"])
def test_a_resumed_training_equals_an_uninterrupted_one(trained: Path, uninterrupted: Path, kind: str) -> None:
    """Stopped and resumed, or in one go: the same weights."""
    first, second = (
        torch.load(folder / kind / "checkpoint.pt", weights_only=True)["network"] for folder in (trained, uninterrupted)
    )
    for name, values in first.items():
        torch.testing.assert_close(values, second[name], msg=name)


@pytest.fixture(scope="module")
def uninterrupted(trained: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training in one go, without its end."""
    out = tmp_path_factory.mktemp("uninterrupted")
    given = ["--data", str(images), "--out", str(out), "--cache", str(trained / "cache"), *SHORT]
    assert main([*given, "--stop-after", "4"]) == 0
    return out


@pytest.mark.parametrize("kind", ["one-stage", "two-stage"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_training_starts_from_what_another_left(trained: Path, tmp_path: Path, kind: str, packed: bool) -> None:
    """From a checkpoint's folder or a package, every stage answers as it did there."""
    network: Network = OneStageDetector() if kind == "one-stage" else TwoStageDetector()
    network.load_state_dict(torch.load(trained / kind / "best.pt", weights_only=True))
    start = start_from([_package_of(network, trained / "mammo-mass", tmp_path) if packed else trained / kind])
    again = start.first if kind == "one-stage" else two_stages(start)
    assert start.first.keeps_statistics
    assert (start.region is None) == (kind == "one-stage")
    picture = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        mine, theirs = again.eval()(picture)._asdict(), network.eval()(picture)._asdict()
    for name, values in mine.items():
        some = slice(8) if kind == "two-stage" and name != "embedding" else slice(None)
        torch.testing.assert_close(values[:, some], theirs[name][:, some], atol=1e-3, rtol=1e-3)


def _package_of(network: Network, example: Path, folder: Path) -> Path:
    """The example's package with another network."""
    folder = folder / "package"
    shutil.copytree(example, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    file = folder / manifest["weights"][0]["file"]
    export_onnx(network, 128, 96, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest["weights"][0].update(sha256=digest, size_bytes=file.stat().st_size)
    manifest["decode"]["network"] = "one-stage" if isinstance(network, OneStageDetector) else "two-stage"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_several_checkpoints_are_averaged(trained: Path) -> None:
    """The mean of two checkpoints' first stages, and the second stage of the one that has it."""
    start = start_from([trained / "one-stage", trained / "two-stage"])
    one, two = (torch.load(trained / kind / "best.pt", weights_only=True) for kind in ("one-stage", "two-stage"))
    mean = (one["heat.weight"] + two["first.heat.weight"]) / 2
    torch.testing.assert_close(start.first.heat.weight.detach(), mean)
    assert start.region is not None
    torch.testing.assert_close(start.region["score.weight"], two["region.score.weight"])


def test_a_start_that_is_none_is_named(trained: Path, tmp_path: Path) -> None:
    """No checkpoint, a damaged one, and a package beside others are refused with the option's name."""
    (tmp_path / "damaged.pt").write_bytes(b"damaged")
    for starts in ([tmp_path], [tmp_path / "damaged.pt"], [trained / "mammo-mass", trained / "one-stage"]):
        with pytest.raises(DataError, match="--from"):
            start_from(starts)


def test_a_start_of_another_kind_is_told_before_images_are_prepared(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package around another network serves, and cannot be trained on from here."""
    foreign = write_package(tmp_path / "foreign")
    assert main(["--data", str(images), "--out", str(tmp_path / "out"), "--from", str(foreign)]) == 1
    said = capsys.readouterr()
    assert "the package holds another network" in said.err
    assert "preprocessed" not in said.out


def test_a_training_is_not_begun_over_another(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forgotten --resume costs no checkpoint; one that a full disk cut off is named."""
    shutil.copytree(trained / "two-stage", tmp_path / "two-stage")
    common = ["--data", str(images), "--out", str(tmp_path), "--cache", str(trained / "cache"), *SHORT]
    state = tmp_path / "two-stage" / "checkpoint.pt"
    whole = state.read_bytes()
    assert main(common) == 1
    assert f"{state} is of an earlier training: --resume" in capsys.readouterr().err
    assert state.read_bytes() == whole
    state.write_bytes(whole[:5000])
    assert main([*common, "--iterations", "0", "--resume"]) == 1
    assert f"{state} cannot be gone on with" in capsys.readouterr().err


def test_bad_data_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without annotations gives exit code 1 and one line, no traceback."""
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "annotations.csv is missing" in capsys.readouterr().err


def test_too_few_patients_are_told(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two patients are one to validate with and one to test with: a message, and nothing is trained."""
    lines = (images / "annotations.csv").read_text().splitlines()
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes((images / name).read_bytes())
    (tmp_path / "annotations.csv").write_text("\n".join(lines[:3]) + "\n")
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out"), *SHORT]) == 1
    assert "has too few patients with located masses: none for train. " in capsys.readouterr().err


def test_the_backbone_takes_every_weight_of_the_wheel() -> None:
    """A strict load, and features of the published channels and strides."""
    features = imagenet_backbone().eval().features(torch.zeros(1, 3, 64, 96))
    assert [tuple(item.shape[1:]) for item in features] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


def test_the_backbone_knows_a_natural_image() -> None:
    """The portrait that Matplotlib ships, of an officer in uniform, is ImageNet class 652: military uniform."""
    portrait = cv2.imread(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    assert portrait is not None
    square = cv2.resize(portrait[: portrait.shape[1], :, ::-1], (224, 224), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        logits = imagenet_backbone().eval()(torch.from_numpy(to_batch(square[None])))
    assert int(logits.argmax()) == 652


def test_training_leaves_the_frozen_parts_alone() -> None:
    """The stem gets no gradient and the backbone's statistics stay; the rest learns."""
    network = OneStageDetector().train()
    before = network.backbone._bn0.running_mean.clone()
    outputs = network(torch.randn(2, 3, 64, 64))
    sum(item.square().mean() for item in outputs).backward()
    assert network.backbone._conv_stem.weight.grad is None
    assert network.backbone._blocks[-1]._project_conv.weight.grad is not None
    assert torch.equal(before, network.backbone._bn0.running_mean)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantoms of four patients as another set, two of them normal."""
    folder = tmp_path_factory.mktemp("beside")
    lines = ["image,patient,laterality,abnormality,is_mass,severity,x_px,y_px,radius_px"]
    for number in range(4):
        image = phantom(ROWS, COLUMNS, "left", [Blob(80, 180, 16, 0.5)] if number < 2 else [], seed=20 + number)
        cv2.imwrite(str(folder / f"{number}.png"), (image.pixels * 255).astype(np.uint8))
        lines.append(f"{number}.png,Q{number},L," + ("CIRC,1,B,80,180,14" if number < 2 else "NORM,0,,,,"))
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def members(trained: Path, images: Path, beside: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trainings that cross, of two batches each, beside another set."""
    out = tmp_path_factory.mktemp("members")
    given = ["--data", str(images), "--also", str(beside), "--cache", str(trained / "cache"), "--batch", "2"]
    given += ["--from", str(trained / "two-stage"), "--iterations", "0", "--region-iterations", "2"]
    for number in ("1", "2"):
        one = ["--out", str(out / number), "--crossed", number, "--seed", number, "--validate-every", "1"]
        assert main([*given, *one]) == 0
        assert not (out / number / "mammo-mass").exists()
    return [out / "1", out / "2"]


def test_crossed_trainings_keep_their_last_weights(members: list[Path]) -> None:
    """What they held out has chosen nothing: the weights are those of the end, whatever validation said on the way."""
    for folder in members:
        state = torch.load(folder / "two-stage" / "checkpoint.pt", weights_only=True)
        last = torch.load(folder / "two-stage" / "best.pt", weights_only=True)
        assert state["best_iteration"] == 2
        torch.testing.assert_close(last["region.score.weight"], state["average"]["region.score.weight"])


@pytest.fixture
def fitted_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The patients that a probability of cancer is fitted on."""
    patients: list[str] = []
    fit = evaluate.fit_probability

    def noted(judged: Sequence[Judged], threshold: float) -> CancerProbability | None:
        patients.extend(item.patient for item in judged)
        return fit(judged, threshold)

    monkeypatch.setattr(evaluate, "fit_probability", noted)
    return patients


def test_crossed_trainings_are_averaged_and_each_judges_what_it_held_out(
    members: list[Path],
    trained: Path,
    images: Path,
    beside: Path,
    tmp_path: Path,
    fitted_on: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The package has their mean weights, its card says who judged, and its probability cannot be fitted anew."""
    cache = ["--cache", str(trained / "cache")]
    given = ["--data", str(images), "--also", str(beside), *cache, "--licence", "research only"]
    assert main([*given, "--members", *map(str, members), "--out", str(tmp_path)]) == 0
    package = load_package(tmp_path / "mammo-mass")
    assert package.manifest.licence == "research only"
    assert [name[0] for name in fitted_on] == ["P"]  # not on the other set, whose share of cancers is another
    evaluation = json.loads((package.folder / "evaluation.json").read_text())
    assert (evaluation["held_out"]["images"], evaluation["held_out"]["normal_images"]) == (4, 2)
    assert [evaluation[part]["patients"] for part in ("validation", "test")] == [1, 1]
    assert evaluation["split"]["train"].startswith("8 patients, 8 images")
    assert "judged by the one training that had not seen them" in package.model_card.read_text()
    states = [torch.load(folder / "two-stage" / "best.pt", weights_only=True) for folder in members]
    mine = start_from([package.folder]).region
    assert mine is not None
    torch.testing.assert_close(mine["score.weight"], sum(state["region.score.weight"] for state in states) / 2)
    assert probability.main(["--package", str(package.folder), "--data", str(images), *cache]) == 1
    assert "has learned from its validation and test patients" in capsys.readouterr().err


def test_members_that_are_none_are_refused(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without a training's weights is named."""
    common = ["--data", str(images), "--out", str(tmp_path), "--cache", str(trained / "cache")]
    assert main([*common, "--members", str(trained), str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
