"""The commands that read files of unknown state: an archive that was harmed, a configuration that was mangled."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from dicomnode.assembly import Stores, make_receiver
from dicomnode.config.settings import load_settings
from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.errors import ConfigurationError
from dicomnode.keeping.inspection import check_archive
from dicomnode.keeping.rebuild import rebuild
from dicomnode.network.part10 import split_file
from dicomnode.receiving.intake import Intake
from storage.archive import Archive
from storage.database import Database
from tests.fuzz.files import Harm, do
from tests.fuzz.target import Broken
from tests.support import studies
from tests.support.requests import take

IMAGES = 3


class Keeping:
    """An archive with a few images, harmed and made whole again. inputs: how often; ends: what was said of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = _database(folder / "node.db")
        _database(folder / "empty.db").close()
        archive = Archive(folder / "whole", min_free_bytes=0)
        intake = Intake(self._database, archive, 50_000_000, frozenset({"MG"}))
        for number in range(IMAGES):
            image = studies.mammogram("2.25.1", "2.25.2", pixels=studies.breast("L", 16, 12))
            image.SOPInstanceUID = f"2.25.10{number}"
            take(intake, image)
        self.example = next((folder / "whole" / "studies").rglob("*.dcm")).read_bytes()
        _, dataset = split_file(self.example)
        self._head = len(self.example) - len(dataset)  # of which preamble and names may differ
        self.inputs = 0
        self.ends: dict[str, int] = {}

    def send(self, harms: Sequence[Harm]) -> None:
        """Harm it, check it, and make an index of what is left. Raises Broken."""
        self.inputs += 1
        place = self._folder / "harmed"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._folder / "whole", place)
        before = _contents(place)
        for harm in harms:
            files = sorted(path for path in (place / "studies").rglob("*.dcm") if path.is_file())
            if files:
                do(harm, files[int(harm.which * len(files))])
        is_whole = _contents(place) == before
        archive = Archive(place, min_free_bytes=0)
        shutil.copy(self._folder / "empty.db", self._folder / "new.db")
        empty = Database.open(f"sqlite:///{self._folder / 'new.db'}")
        try:
            problems = list(check_archive(self._database, archive))
            rebuilt = rebuild(empty, archive)
            again = rebuild(empty, archive)
        except Exception as error:
            raise Broken(f"a file stopped the whole check: {error!r}") from error
        finally:
            empty.close()
            for path in self._folder.glob("new.db*"):
                path.unlink()
        if is_whole and (problems or rebuilt.problems or rebuilt.instances != IMAGES):
            raise Broken(f"nothing was harmed, and this is said: {problems}, {rebuilt}")
        if again.instances or again.known != rebuilt.instances + rebuilt.known:
            raise Broken(f"a second rebuild found {again} after {rebuilt}")
        after = _contents(place)
        harmed = [path for path, data in before.items() if after.get(path, b"")[self._head :] != data[self._head :]]
        if len(problems) < len(harmed):
            raise Broken(f"{harmed} are not as they were, and this is said: {problems}")
        for problem in problems:
            self.ends[problem.reason] = self.ends.get(problem.reason, 0) + 1

    def close(self) -> None:
        """Let the database go."""
        self._database.close()


class Configuring:
    """Reads mangled configurations. ends: how they were taken."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "node.toml"
        self._stores = Stores(_database(folder / "any.db"), Archive(folder / "any", min_free_bytes=0))
        self.inputs = 0
        self.ends: dict[str, int] = {}

    def send(self, text: bytes) -> None:
        """Read it, and begin with it as `dicomnode check` does. Raises Broken."""
        self.inputs += 1
        self._file.write_bytes(text)
        try:
            settings = load_settings(self._file)
            receiver = make_receiver(settings, self._stores, OpenAssociations())
            with mock.patch.object(
                receiver, "_settings", settings.node.model_copy(update={"host": "127.0.0.1", "port": 0})
            ):
                receiver.open()
                receiver.close()
            end = "taken"
        except ConfigurationError:
            end = "refused"
        except Exception as error:
            raise Broken(f"not said in words: {error!r}") from error
        self.ends[end] = self.ends.get(end, 0) + 1

    def close(self) -> None:
        """Let the database go."""
        self._stores.database.close()


def _database(path: Path) -> Database:
    database = Database.open(f"sqlite:///{path}")
    database.migrate()
    return database


def _contents(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (place / "studies").rglob("*.dcm") if path.is_file()}


@contextmanager
def keeping(folder: Path) -> Iterator[Keeping]:
    """An archive to be harmed."""
    found = Keeping(folder)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def configuring(folder: Path) -> Iterator[Configuring]:
    """A place for configurations."""
    found = Configuring(folder)
    try:
        yield found
    finally:
        found.close()
