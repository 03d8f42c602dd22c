"""The head of a file, against the general encoder's."""

import pytest
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from dicomnode.network.file_head import FileHead


@pytest.mark.parametrize("sop_instance_uid", ["1.2.3", "1.2.34", "2.25." + "9" * 39])
@pytest.mark.parametrize("ae_title", ["PACS", "PACS1", "A" * 16])
def test_is_what_the_general_encoder_writes(sop_instance_uid: str, ae_title: str) -> None:
    """Byte for byte, with values of odd and of even length."""
    sop_class, syntax = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.70"
    meta = create_file_meta(
        sop_class_uid=UID(sop_class), sop_instance_uid=UID(sop_instance_uid), transfer_syntax=UID(syntax)
    )
    meta.SourceApplicationEntityTitle = ae_title
    head = FileHead(sop_class, syntax, ae_title).of(sop_instance_uid)
    assert head == bytes(128) + b"DICM" + encode_file_meta(meta)
