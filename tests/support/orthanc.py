"""Orthanc as the PACS: an archive that takes results, and a sender that routes what it stores."""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from tests.support.certificates import Identity
from tests.support.waiting import answers, free_port, wait_until

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # Debian's package orthanc-dicomweb
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
ROUTE_MAMMOGRAMS = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if origin['RequestOrigin'] ~= 'Lua' and tags['Modality'] == 'MG' then
    SendToModality(instanceId, 'node')
  end
end
"""


def missing() -> str:
    """Why Orthanc cannot be used, or nothing."""
    return "" if shutil.which("Orthanc", path=SEARCH_PATH) else "not installed: Orthanc (package orthanc)"


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc."""

    ae_title: str
    dicom_port: int
    http_port: int

    def instances(self, study_instance_uid: str) -> list[Dataset]:
        """Every instance of a study, whole, as stored."""
        found: list[Dataset] = []
        for study in self._find_study(study_instance_uid):
            found += [self._download(item["ID"]) for item in self._get_json(f"/studies/{study}/instances")]
        return found

    def of_modality(self, study_instance_uid: str, modality: str) -> list[Dataset]:
        """The instances of a study that are of one modality."""
        return [instance for instance in self.instances(study_instance_uid) if instance.Modality == modality]

    def count(self, study_instance_uid: str, modality: str) -> int:
        """How many instances of that modality the study has; cheap enough to poll."""
        total = 0
        for study in self._find_study(study_instance_uid):
            for series in self._get_json(f"/studies/{study}/series"):
                if series["MainDicomTags"].get("Modality") == modality:
                    total += len(series["Instances"])
        return total

    def wait_for(self, study_instance_uid: str, modality: str, number: int = 1, timeout_s: float = 60.0) -> None:
        """Wait until the study has that many instances of the modality."""
        wait_until(
            lambda: self.count(study_instance_uid, modality) >= number,
            f"{number} {modality} in study {study_instance_uid} at Orthanc",
            timeout_s,
            every_s=0.1,
        )

    def store(self, path: Path) -> None:
        """Put a file into it by HTTP."""
        self._request("POST", "/instances", path.read_bytes())

    def total_instances(self) -> int:
        """How many instances are stored in all."""
        return int(self._get_json("/statistics")["CountInstances"])

    def _find_study(self, study_instance_uid: str) -> list[str]:
        query = {"Level": "Study", "Query": {"StudyInstanceUID": study_instance_uid}}
        found: list[str] = json.loads(self._request("POST", "/tools/find", json.dumps(query)))
        return found

    def _download(self, instance: str) -> Dataset:
        return dcmread(BytesIO(self._request("GET", f"/instances/{instance}/file")))

    def _get_json(self, path: str):  # noqa: ANN202  JSON of a foreign peer
        return json.loads(self._request("GET", path))

    def _request(self, method: str, path: str, body: str | bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"Orthanc answered {answer.status} to {method} {path}: {content[:200]!r}")
        return content


@contextmanager
def running_orthanc(
    folder: Path,
    *,
    node_port: int | None = None,
    lua: Sequence[str] = (),
    ae_title: str = "ORTHANC",
    plugins: Sequence[Path] = (),
    waits_for_disk: bool = False,
    users: Mapping[str, str] | None = None,
    tls: Identity | None = None,
) -> Iterator[Orthanc]:
    """Start Orthanc in a folder. node_port: of the modality `node` that Lua scripts can send to.

    waits_for_disk: as Orthanc does by default, and no test needs. users: passwords of those who may use its HTTP;
    without, everybody on this machine may. tls: with it the DICOM port, and the modality `node`, speak nothing else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    orthanc = Orthanc(ae_title, free_port(), free_port())
    scripts = []
    for number, text in enumerate(lua):
        script = folder / f"script-{number}.lua"
        script.write_text(text)
        scripts.append(str(script))
    node = {"AET": "DICOMNODE", "Host": "127.0.0.1", "Port": node_port, "UseDicomTls": tls is not None}
    configuration = {
        "Name": "end-to-end",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(plugin) for plugin in plugins],
        "LuaScripts": scripts,
        "DicomAet": ae_title,
        "DicomPort": orthanc.dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {"node": node} if node_port else {},
        "HttpPort": orthanc.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": users is not None,
        "RegisteredUsers": dict(users or {}),
        "OverwriteInstances": True,
        "SaveJobs": False,
        "SyncStorageArea": waits_for_disk,
    }
    if tls is not None:
        configuration |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls.certificate),
            "DicomTlsPrivateKey": str(tls.private_key),
            "DicomTlsTrustedCertificates": str(tls.authority),
            "DicomTlsRemoteCertificateRequired": True,
        }
    (folder / "orthanc.json").write_text(json.dumps(configuration, indent=1))
    binary = shutil.which("Orthanc", path=SEARCH_PATH)
    if binary is None:
        raise RuntimeError(missing())
    with (folder / "orthanc.log").open("wb") as output:
        process = subprocess.Popen(
            [binary, str(folder / "orthanc.json")],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=output,
            stderr=output,
        )
        try:
            wait_until(lambda: answers(orthanc.http_port) and answers(orthanc.dicom_port), "Orthanc listens")
            yield orthanc
        finally:
            process.terminate()
            process.wait(60)
