"""Fetching from a real Orthanc what it has and did not send: C-MOVE, C-GET and DICOMweb."""

import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless, generate_uid

from dicomnode.assembly import Stores, make_puller
from dicomnode.config.sections import (
    ArchiveSettings,
    CompletenessSettings,
    DatabaseSettings,
    DestinationSettings,
    ModelSettings,
    NodeSettings,
    PullSettings,
    TlsSettings,
)
from dicomnode.config.settings import Settings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.network.secure import server_context
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from storage import retrievals
from storage.archive import Archive
from storage.database import Database
from storage.lifecycle import RetrievalState, StudyState
from storage.studies import find_study, instances_of
from tests.support import dcmtk, orthanc, studies
from tests.support.certificates import issue
from tests.support.located import located
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.orthanc import DICOMWEB, Orthanc, running_orthanc
from tests.support.requests import encoded, take
from tests.support.waiting import free_port, wait_until

METHODS = ("move", "get", "dicomweb")
AT_ONCE = CompletenessSettings(quiet_s=1e-9)


@pytest.fixture(scope="module")
def node_port() -> int:
    """Where the PACS believes the node to be."""
    return free_port()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, node_port: int) -> Iterator[Orthanc]:
    """An Orthanc that knows the node, with DICOMweb."""
    if reason := orthanc.missing() or ("" if DICOMWEB.exists() else f"not installed: {DICOMWEB}"):
        pytest.skip(reason)
    with running_orthanc(tmp_path_factory.mktemp("pacs"), node_port=node_port, plugins=[DICOMWEB]) as running:
        yield running


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """An empty node."""
    database = Database.open(f"sqlite:///{tmp_path}/node.db")
    database.migrate()
    yield Stores(database, Archive(tmp_path / "archive", min_free_bytes=0))
    database.close()


@dataclass(frozen=True, slots=True)
class Node:
    """A node without a process of its own."""

    stores: Stores
    intake: Intake
    pull_once: Callable[[], bool]

    def want_missing(self, study: str) -> None:
        """As the evidence of completeness does."""
        with self.stores.database.transaction() as connection:
            retrievals.want_missing(connection, study, 1)

    def outcome(self, kind: retrievals.RetrievalKind) -> tuple[RetrievalState, str]:
        """What came of the last retrieval of that kind."""
        with self.stores.database.transaction() as connection:
            latest = retrievals.list_retrievals(connection, kind=kind)[0]
        return latest.state, latest.outcome

    def files(self, study: str) -> dict[str, Dataset]:
        """What is here of a study, by SOP Instance UID."""
        with self.stores.database.transaction() as connection:
            found = instances_of(connection, study)
        return {item.sop_instance_uid: dcmread(located(self.stores.archive, item.object_key)) for item in found}

    def state(self, study: str) -> StudyState | None:
        """Where a study is on its way."""
        with self.stores.database.transaction() as connection:
            found = find_study(connection, study)
        return None if found is None else found.state


MakeNode = Callable[..., Node]


@pytest.fixture
def node(tmp_path: Path, stores: Stores, pacs: Orthanc, node_port: int) -> Iterator[MakeNode]:
    """Makes the node, with its receiver open. maximum_bytes: of an instance; tls: all in it; other: of `[pull]`."""
    with contextmanager(_receivers)() as receivers:

        def make(
            method: str,
            *,
            maximum_bytes: int = 50_000_000,
            ae_title: str = "DICOMNODE",
            tls: TlsSettings | None = None,
            **other: object,
        ) -> Node:
            settings = NodeSettings(
                host="127.0.0.1", port=node_port, allow_any_calling_ae_title=True, ae_title=ae_title
            )
            pull = {"source": "pacs", "method": method, "missing": True, "retry_after_s": 0.001, **other}
            if method == "dicomweb":
                pull.setdefault("url", f"http://127.0.0.1:{pacs.http_port}/dicom-web")
            destination = {"port": pacs.dicom_port, **({"port": pull.pop("port")} if "port" in pull else {})}
            whole = Settings(
                node=settings,
                database=DatabaseSettings(url=stores.database.url),
                archive=ArchiveSettings(path=tmp_path / "archive"),
                completeness=CompletenessSettings(ask="pacs"),
                pull=PullSettings.model_validate(pull),
                tls=tls or TlsSettings(),
                models=(ModelSettings(package="mammo-mass"),),
                destinations=(
                    DestinationSettings(
                        name="pacs",
                        ae_title=pacs.ae_title,
                        host="127.0.0.1",
                        connect_timeout_s=20,
                        calling_ae_title="DICOMNODE",
                        tls=tls is not None,
                        **destination,
                    ),
                ),
            )
            pull_once = make_puller(whole, stores)
            assert pull_once is not None
            intake = Intake(stores.database, stores.archive, maximum_bytes, frozenset({"MG"}))
            receivers.append(Receiver(settings, intake, server_context(whole.tls)))
            receivers[-1].open()
            return Node(stores, intake, pull_once)

        yield make


def _receivers() -> Iterator[list[Receiver]]:
    opened: list[Receiver] = []
    try:
        yield opened
    finally:
        for receiver in opened:
            receiver.close()


def _put(pacs: Orthanc, images: list[Dataset], folder: Path) -> list[Path]:
    paths = studies.write_study(images, folder / str(images[0].StudyInstanceUID))
    for path in paths:
        pacs.store(path)
    return paths


def _views(patient: str = "PULL-1", day: str = "20260110", modality: str = "MG") -> list[Dataset]:
    images = studies.four_views()
    for image in images:
        image.PatientID, image.StudyDate, image.Modality = patient, day, modality
    return images


def _dataset_bytes(path: Path) -> bytes:
    """What stands behind the file meta information."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 140)  # (0002,0000), PS3.10 7.1
    return content[144 + length :]


@pytest.mark.parametrize("method", METHODS)
def test_missing_images_come_as_they_are_stored(tmp_path: Path, pacs: Orthanc, node: MakeNode, method: str) -> None:
    """Of four views one came; the others are fetched, a compressed one as it is, and a report is not.

    By DICOMweb byte for byte; for the other two Orthanc encodes again.
    """
    images = _views()
    images[3].compress(RLELossless, generate_instance_uid=False)
    report = _views(modality="SR")[:1]
    report[0].StudyInstanceUID = study = images[0].StudyInstanceUID
    stored = _put(pacs, [*images, *report], tmp_path)
    here = node(method)
    take(here.intake, images[0])
    here.want_missing(study)
    assert here.pull_once()
    assert here.outcome(retrievals.RetrievalKind.MISSING) == (RetrievalState.DONE, "3 images fetched")
    found = here.files(study)
    assert set(found) == {image.SOPInstanceUID for image in images}
    for image in images:
        came = found[image.SOPInstanceUID]
        assert came == image
        assert came.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        assert came.file_meta.SourceApplicationEntityTitle == ("PACS" if image is images[0] else pacs.ae_title)
    if method == "dicomweb":
        fetched = {_dataset_bytes(Path(str(found[image.SOPInstanceUID].filename))) for image in images[1:]}
        assert fetched == {_dataset_bytes(path) for path in stored[1:4]}
    assert not here.pull_once()


@pytest.mark.parametrize("method", METHODS)
def test_priors_come_by_rule_and_are_not_analysed(tmp_path: Path, pacs: Orthanc, node: MakeNode, method: str) -> None:
    """The newest earlier mammograms of the same patient, within the age; nothing else, and no job for them."""
    patient = str(generate_uid())[-12:]
    present = _views(patient, "20260110")
    last, before, oldest = (_views(patient, day)[:2] for day in ("20250110", "20240110", "20230110"))
    other_modality = _views(patient, "20250505", "CT")[:1]
    namesake = _views(patient, "20250601")[:1]
    for image in namesake:
        image.PatientBirthDate = "19010101"
    ancient, later = _views(patient, "20100110")[:1], _views(patient, "20260111")[:1]
    for images in (present, last, before, oldest, other_modality, namesake, ancient, later):
        _put(pacs, images, tmp_path)
    here = node(method, priors=[{"modality": "MG", "at_most": 2, "maximum_age_days": 3650}])
    for image in present:
        take(here.intake, image)
    dispatcher = Dispatcher(
        here.stores.database, AT_ONCE, [ModelSettings(package="x")], 3, want_priors_for=frozenset({"MG"})
    )
    assert dispatcher.do_one_round()
    while here.pull_once():
        dispatcher.do_one_round()
    dispatcher.do_one_round()
    assert here.outcome(retrievals.RetrievalKind.SEARCH) == (RetrievalState.DONE, "2 priors wanted")
    for prior in (last, before):
        uid = prior[0].StudyInstanceUID
        assert here.state(uid) is StudyState.PRIOR
        assert set(here.files(uid)) == {image.SOPInstanceUID for image in prior}
        assert here.stores.archive.is_prior(uid)
    for other in (oldest, other_modality, namesake, ancient, later):
        assert here.state(other[0].StudyInstanceUID) is None
    assert here.state(present[0].StudyInstanceUID) is StudyState.QUEUED
    with here.stores.database.transaction() as connection:
        jobs = connection.exec_driver_sql("SELECT study_instance_uid FROM jobs").scalars().all()
    assert jobs == [present[0].StudyInstanceUID]


def test_what_the_node_refuses_of_a_move_is_said(tmp_path: Path, pacs: Orthanc, node: MakeNode) -> None:
    """A partial failure: what can be had is here, the rest is counted, tried again, and given up in the end.

    Orthanc gives a C-MOVE up at the first image that is refused, so the second attempt asks for each by itself.
    """
    images = _views()
    images[2].ImageComments = "x" * 10_000
    _put(pacs, images, tmp_path)
    here = node("move", maximum_bytes=len(encoded(images[2])) - 5_000, max_attempts=2)
    take(here.intake, images[0])
    here.want_missing(images[0].StudyInstanceUID)
    assert here.pull_once()
    state, reason = here.outcome(retrievals.RetrievalKind.MISSING)
    assert state is RetrievalState.WAITING
    assert re.match("[123] of 3 images did not come: C-MOVE: ORTHANC at .* answered 0x", reason), reason
    wait_until(here.pull_once, "the second attempt is due")
    state, reason = here.outcome(retrievals.RetrievalKind.MISSING)
    assert state is RetrievalState.DEAD
    assert re.match("1 of [123] images did not come: C-MOVE", reason), reason
    assert set(here.files(images[0].StudyInstanceUID)) == {images[n].SOPInstanceUID for n in (0, 1, 3)}


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("move", {"ae_title": "NOBODY"}, "C-MOVE: ORTHANC at .* answered 0x"),
        ("get", {"port": 1}, "ORTHANC at 127.0.0.1:1 cannot be reached"),
        ("dicomweb", {"url": "http://127.0.0.1:1/dicom-web"}, "cannot be reached"),
    ],
    ids=["unknown destination", "PACS away", "web server away"],
)
def test_what_cannot_be_had_is_said(
    tmp_path: Path, pacs: Orthanc, node: MakeNode, method: str, options: dict[str, object], told: str
) -> None:
    """The reason stays with the retrieval, and the study with what it has."""
    images = _views()
    _put(pacs, images, tmp_path)
    _fetch_in_vain(node(method, **options), images, told)


def test_a_wrong_password_is_said(tmp_path: Path, node: MakeNode) -> None:
    """And is not in what is said."""
    with running_orthanc(tmp_path / "locked", plugins=[DICOMWEB], users={"dicomnode": "right"}) as locked:
        url = f"http://127.0.0.1:{locked.http_port}/dicom-web"
        here = node("dicomweb", url=url, user="dicomnode", password="wr0ng")  # noqa: S106  of nobody
        _fetch_in_vain(here, _views(), r"dicom-web answered 401 \(user or password is wrong\)$")


def _fetch_in_vain(here: Node, images: list[Dataset], told: str) -> None:
    take(here.intake, images[0])
    here.want_missing(images[0].StudyInstanceUID)
    assert here.pull_once()
    state, reason = here.outcome(retrievals.RetrievalKind.MISSING)
    assert state is RetrievalState.WAITING
    assert re.search(told, reason), reason
    assert len(here.files(images[0].StudyInstanceUID)) == 1


def _fetch(here: Node, images: list[Dataset]) -> None:
    take(here.intake, images[0])
    here.want_missing(images[0].StudyInstanceUID)
    assert here.pull_once()
    told = f"{len(images) - 1} images fetched"
    assert here.outcome(retrievals.RetrievalKind.MISSING) == (RetrievalState.DONE, told)
    found = here.files(images[0].StudyInstanceUID)
    assert [found[image.SOPInstanceUID] for image in images] == images


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The hospital's own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, pacs: Orthanc, authority: trustme.CA, node_port: int
) -> Iterator[Orthanc]:
    """One more, that speaks TLS alone."""
    folder = tmp_path_factory.mktemp("secured")
    with running_orthanc(
        folder, node_port=node_port, ae_title=pacs.ae_title, tls=issue(authority, "pacs", folder)
    ) as running:
        yield running


@pytest.mark.parametrize("method", ["move", "get"])
def test_all_of_it_goes_over_tls(
    tmp_path: Path, secured: Orthanc, authority: trustme.CA, node: MakeNode, method: str
) -> None:
    """C-FIND, and what brings the images; both ends show a certificate."""
    images = _views()
    _put(secured, images, tmp_path)
    _fetch(node(method, tls=issue(authority, "node", tmp_path).settings(), port=secured.dicom_port), images)


def test_a_pacs_asks_a_stranger_nothing(
    tmp_path: Path, secured: Orthanc, authority: trustme.CA, node: MakeNode
) -> None:
    """A certificate of another authority opens no association, and that is said."""
    stranger = issue(trustme.CA(), "stranger", tmp_path).settings()
    ours = issue(authority, "node", tmp_path).authority
    here = node("get", tls=stranger.model_copy(update={"authorities": ours}), port=secured.dicom_port)
    _fetch_in_vain(here, _views(), "ORTHANC at 127.0.0.1:[0-9]+ cannot be reached")


@pytest.mark.parametrize("method", ["move", "get"])
@pytest.mark.usefixtures("needs_dcmtk")
def test_another_pacs_answers_the_same(
    tmp_path: Path, pacs: Orthanc, node: MakeNode, node_port: int, method: str
) -> None:
    """DCMTK's: it takes part in the same operations with an upper layer of its own."""
    images = _views()
    paths = studies.write_study(images, tmp_path / "study")
    with dcmtk.dcmqrscp(tmp_path / "archive-of-dcmtk", node_port, ae_title=pacs.ae_title) as port:
        stored = dcmtk.storescu(port, paths, called=pacs.ae_title)
        assert stored.ok, stored.output
        _fetch(node(method, port=port), images)


@pytest.mark.usefixtures("needs_dcmtk", "needs_orthanc")
def test_the_node_completes_a_study_and_keeps_a_prior(tmp_path: Path, films: list[Path]) -> None:
    """`dicomnode serve`: one of two images is sent, both are analysed, and the prior is not."""
    port, study, prior = free_port(), str(generate_uid()), str(generate_uid())
    for uid, day, count in ((study, "20260110", 2), (prior, "20240110", 1)):
        images = [dcmread(path) for path in films[:count]]
        for image in images:
            image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"[-64:]
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            image.PatientID, image.StudyDate = "PULLED", day
        studies.write_study(images, tmp_path / uid)
    with running_orthanc(tmp_path / "orthanc", node_port=port) as pacs:
        for path in sorted(tmp_path.glob("*/*.dcm")):
            pacs.store(path)
        destination = Destination(pacs.ae_title, pacs.dicom_port, options={"calling_ae_title": "DICOMNODE"})
        other = {
            "completeness": {"ask": destination.name},
            "pull": {"source": destination.name, "missing": True, "priors": [{"modality": "MG"}]},
        }
        config = NodeConfig(tmp_path / "node", destination, port=port, quiet_s=1.0, other=other)
        with running_node(config) as node:
            sent = dcmtk.storescu(node.port, [min((tmp_path / study).iterdir())], options=["-xr"])
            assert sent.ok, sent.output
            node.wait_for("job done", study_instance_uid=study)
            node.wait_for("prior kept", study_instance_uid=prior)
            analysed = node.wait_for("analysed", study_instance_uid=study)
            assert analysed["images"] + analysed["left_out"] == 2
            assert node.rows("SELECT study_instance_uid FROM jobs") == [(study,)]
            shown = subprocess.run(
                [sys.executable, "-m", "dicomnode", "status", "--config", str(config.folder / "node.toml")],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
    assert f"prior {prior}: 1 images fetched" in " ".join(shown.split())
