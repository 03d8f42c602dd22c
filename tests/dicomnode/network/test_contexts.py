"""What is negotiated on the wire."""

import pytest
from pydicom.uid import UID, JPEG2000Lossless

from dicomnode.images.codecs import CODECS
from dicomnode.network.contexts import ACCEPTED_TRANSFER_SYNTAXES, accepted_contexts, offered_contexts

MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.mark.parametrize("uid", [uid for uid in ACCEPTED_TRANSFER_SYNTAXES if uid.is_encapsulated])
def test_every_accepted_compression_decodes_here(uid: UID) -> None:
    """Nothing is acknowledged that could not be read afterwards."""
    assert uid in CODECS


def test_mammograms_and_echo_are_accepted() -> None:
    """The table holds the classes that the first model lives on."""
    contexts = {context.abstract_syntax: context.transfer_syntax for context in accepted_contexts()}
    assert VERIFICATION in contexts
    assert JPEG2000Lossless in contexts[UID(MAMMOGRAPHY)]


def test_only_what_is_sent_is_offered() -> None:
    """A requestor may offer 128 contexts at most, so it names its own classes alone."""
    contexts = offered_contexts({MAMMOGRAPHY})
    assert [context.abstract_syntax for context in contexts] == [MAMMOGRAPHY]
