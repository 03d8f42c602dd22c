"""How fast instances are taken, against DCMTK's storescp, against Orthanc, and against the disk itself.

The node is `dicomnode receive` as shipped. `receive_*` compare like with like: neither the node nor storescp waits for
the disk. `durable_*` are the node's default, where Success comes after file and row are on the disk.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from tests.bench import bare_disk, receiver_costs
from tests.bench.sending import Load, ct, mammograms, seconds_of, template_of
from tests.bench.table import Board
from tests.support import dcmtk, orthanc
from tests.support.node import Destination, NodeConfig, running_node

ROUNDS = 3
CT_1, CT_4, MG_1 = ct(1000, 1), ct(1000, 4), mammograms(40, 1)
PROCESSES = 2  # of the node where several associations come at once: as many as the machine has cores
PEERS_WORDS = "instances a second, best of the rounds"

Contestant = Callable[[Path], float]


@contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    with dcmtk.storescp(folder, options=("+B", "--fork")) as port:
        yield port


@contextmanager
def _orthanc(folder: Path) -> Iterator[int]:
    with orthanc.running_orthanc(folder, waits_for_disk=True) as running:
        yield running.dicom_port


@contextmanager
def _node(folder: Path, durability: str, processes: int) -> Iterator[int]:
    other: dict[str, dict[str, object]] = {"receiver": {"durability": durability}}
    if processes > 1:
        other["receiver"]["processes"] = processes
    config = NodeConfig(folder, Destination("NOWHERE", 1), quiet_s=3600.0, other=other)
    with running_node(config, role="receive") as node:
        yield node.port


def _sent_to(
    load: Load, receiver: Callable[[Path], AbstractContextManager[int]], called: str = "DICOMNODE"
) -> Contestant:
    """Seconds that a receiver takes for a load."""

    def run(folder: Path) -> float:
        with receiver(folder) as port:
            return seconds_of(load, port, called)

    return run


def _node_with(load: Load, durability: str) -> Contestant:
    processes = 1 if load.associations == 1 else PROCESSES
    return _sent_to(load, partial(_node, durability=durability, processes=processes))


def _best(contestants: Mapping[str, Contestant], folder: Path) -> dict[str, float]:
    """Seconds of each, the best of the rounds, interleaved."""
    best = dict.fromkeys(contestants, float("inf"))
    for number in range(ROUNDS):
        for name, contestant in contestants.items():
            place = folder / f"{name}_{number}"
            best[name] = min(best[name], contestant(place))
            _empty(place)
    return best


def _empty(folder: Path) -> None:
    """Give the disk back what the files hold, and leave the files to the very end.

    After many removals ext4 takes up to 40 times as long to make a file, for half a minute, and the next contestant
    would be measured with it.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def _rates(load: Load, contestants: Mapping[str, Contestant], folder: Path, say: Callable[[str], None]) -> list[float]:
    """Instances a second of each."""
    rates = {name: load.instances / seconds for name, seconds in _best(contestants, folder).items()}
    say(", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()))
    return list(rates.values())


def _against_storescp(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    absent = dcmtk.missing()
    for name, load in (("receive_ct_1", CT_1), ("receive_mg_1", MG_1), ("receive_ct_4", CT_4)):
        if absent:
            board.leave_out(name, absent)
            continue
        pair = {
            f"{name}_dicomnode": _node_with(load, "none"),
            f"{name}_storescp": _sent_to(load, _storescp, "STORESCP"),
        }
        node, storescp = _rates(load, pair, folder, say)
        size = len(template_of(load)) / 1e6
        told = f"{load.instances} of {size:.1f} MB, {load.associations} assoc., not durable, against storescp +B"
        board.put(name, node / storescp, told)
        board.put(f"{name}_dicomnode_per_s", node, PEERS_WORDS)
        board.put(f"{name}_storescp_per_s", storescp, PEERS_WORDS)


def _against_disk(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    for name, load in (("durable_1", CT_1), ("durable_mg_1", MG_1)):
        contestants = {
            f"{name}_dicomnode": _node_with(load, "full"),
            f"{name}_disk": partial(bare_disk.write_and_sync, load),
            f"{name}_renames": partial(bare_disk.write_sync_and_rename, load),
        }
        node, disk, renames = _rates(load, contestants, folder, say)
        board.put(f"{name}_vs_disk", node / disk, "durable, one association, against a bare write + fsync loop")
        board.put(f"{name}_vs_renames", node / renames, "the same, where the loop also renames and syncs the folder")
        board.put(f"{name}_per_s", node, PEERS_WORDS)


def _durable_at_once(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    contestants = {"durable_4": _node_with(CT_4, "full"), "durable_1": _node_with(CT_1, "full")}
    absent = orthanc.missing()
    if absent:
        board.leave_out("durable_4_vs_orthanc", absent)
    else:
        contestants["durable_4_orthanc"] = _sent_to(CT_4, _orthanc, "ORTHANC")
    four, one, *others = _rates(CT_4, contestants, folder, say)
    board.put("durable_4_vs_1", four / one, "durable, 4 associations against one")
    board.put("durable_4_per_s", four, PEERS_WORDS)
    for rate in others:
        board.put("durable_4_vs_orthanc", four / rate, "durable, 4 associations, against Orthanc in its default")
        board.put("durable_4_orthanc_per_s", rate, PEERS_WORDS)


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put `receive_*`, `durable_*` and what the receiver costs on the board."""
    _against_storescp(board, folder, say)
    _against_disk(board, folder, say)
    _durable_at_once(board, folder, say)
    receiver_costs.measure(board, folder / "costs", say)
