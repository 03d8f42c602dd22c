"""Looks at the archive's room and says in the log when a mark is passed."""

from dicomnode.logs import get_logger
from storage.archive import Archive
from storage.room import Level

log = get_logger(__name__)


class RoomWatch:
    """Watches one archive; also lets senders in again when room was made and nobody has asked since."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._last = Level.AMPLE

    def do_one_round(self) -> bool:
        """Look once. Returns False: there is never more to do at once."""
        level = self._archive.settle_level()
        if level is not self._last:
            free_bytes = self._archive.free_bytes()
            if level is Level.REFUSING:
                log.error("room gone", free_bytes=free_bytes, answer="0xA700")
            elif level is Level.LOW:
                log.warning("room low", free_bytes=free_bytes)
            else:
                log.info("room again", free_bytes=free_bytes)
            self._last = level
        return False
