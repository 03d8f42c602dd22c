"""What a C-STORE request leaves behind besides the instance."""

from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.receiving import storing
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.storing import Storing


def test_a_name_beyond_a_uids_length_is_not_kept(intake: Intake) -> None:
    """A request may name 64 KiB as its SOP class, and each time others."""
    own = Storing(intake, OpenAssociations())
    before = storing.known_head.cache_info().currsize
    for digits in (64, 65, 65_000):
        own.begin("1" * digits, "1.2.3", ExplicitVRLittleEndian, "PACS", None).abandon()
    assert storing.known_head.cache_info().currsize == before + 1
