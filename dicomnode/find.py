"""Asking a PACS what it has of a study: C-FIND in the Study Root information model (PS3.4 C.6.2)."""

import ssl
from collections import Counter
from collections.abc import Mapping

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]  # from a table

from dicomnode.config import DestinationSettings
from dicomnode.errors import QueryFailed
from dicomnode.sockets import send_at_once

PENDING = frozenset({0xFF00, 0xFF01})  # PS3.4 table C.4-1


def count_by_modality(
    study_instance_uid: str, pacs: DestinationSettings, ae_title: str, tls: ssl.SSLContext | None
) -> Mapping[str, int]:
    """Number of instances of the study's series by modality. Raises QueryFailed, also where the PACS does not count."""
    where = f"{pacs.ae_title} at {pacs.host}:{pacs.port}"
    entity = AE(ae_title=pacs.calling_ae_title or ae_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = pacs.connect_timeout_s
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate(
        pacs.host,
        pacs.port,
        ae_title=pacs.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once)],
        tls_args=(tls, pacs.host) if pacs.tls and tls else None,
    )
    if not association.is_established:
        raise QueryFailed(f"{where} cannot be asked by C-FIND")
    counts: Counter[str] = Counter()
    try:
        for answer, series in association.send_c_find(
            _series_of(study_instance_uid), StudyRootQueryRetrieveInformationModelFind
        ):
            status = answer.get("Status")
            if status in PENDING and series is not None:
                counts[str(series.get("Modality", ""))] += _number(series, where)
            elif status != 0x0000:
                said = "nothing" if status is None else f"0x{status:04X}"
                raise QueryFailed(f"{where} answered {said} to C-FIND")
    finally:
        if association.is_established:
            association.release()
    return counts


def _series_of(study_instance_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = study_instance_uid
    identifier.SeriesInstanceUID = ""
    identifier.Modality = ""
    identifier.NumberOfSeriesRelatedInstances = None
    return identifier


def _number(series: Dataset, where: str) -> int:
    value = series.get("NumberOfSeriesRelatedInstances")
    if value is None:
        raise QueryFailed(f"{where} does not tell the number of a series' instances")
    return int(value)
