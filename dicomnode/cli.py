"""The command line: reads the settings once, sets the log up, and hands over."""

import atexit
import gc
import json
import socket
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from dicomnode import logs, serve, status
from dicomnode.assembly import (
    Stores,
    make_puller,
    make_reanalysis,
    make_receiver,
    make_retention,
    make_wire,
    open_stores,
    upgrade_database,
)
from dicomnode.character_sets import ask_for_known_ones_only
from dicomnode.complaints import errors_are_messages
from dicomnode.config.exposure import OPEN_TO_ALL, open_to_all
from dicomnode.config.settings import Settings, load_settings
from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.errors import DeliveryFailed
from dicomnode.keeping.inspection import check_archive
from dicomnode.keeping.retention import SECONDS_A_DAY
from dicomnode.network.secure import check_validity
from storage import outbox, ownership, queue, retrievals
from storage.lifecycle import StudyState
from storage.reanalysis import ANALYSABLE, GONE, Choice
from storage.room import Level

log = logs.get_logger(__name__)

NOT_FOR_CLINICAL_USE = "Research software, not for clinical use."

ENGINE = "engine"


class _Commands(TyperGroup):
    """All commands; those about engines load with their backends only when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, for the help."""
        return [*super().list_commands(ctx), ENGINE]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One by its name."""
        if cmd_name != ENGINE:
            return super().get_command(ctx, cmd_name)
        from dicomnode.engine_command import app as engine  # noqa: PLC0415  as said above

        command = typer.main.get_command(engine)
        command.name = ENGINE
        return command


app = typer.Typer(
    cls=_Commands,
    name="dicomnode",
    help=f"A PACS AI node: DICOM studies in, structured reports and segmentations back. {NOT_FOR_CLINICAL_USE}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
db = typer.Typer(
    help="The database: bring its schema up to date, make it again from the files, requeue what was given up.",
    no_args_is_help=True,
)
app.add_typer(db, name="db")

ConfigOption = Annotated[Path, typer.Option("--config", help="The TOML configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def _settings(config: Path, level: str | None = None) -> Settings:
    settings = load_settings(config)
    logs.configure(settings.logging.format, level or settings.logging.level)
    ask_for_known_ones_only()
    return settings


def _settings_of_role(config: Path) -> Settings:
    """For what runs on: it says which secrets everybody may read."""
    settings = _settings(config)
    for file in open_to_all(settings, config):
        log.warning("secret open to all", file=str(file), hint=OPEN_TO_ALL)
    return settings


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicomnode {version('dicomnode')}. {NOT_FOR_CLINICAL_USE}")
        raise typer.Exit


@app.callback()
def _main(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=lambda value: _show_version(wanted=value), is_eager=True)
    ] = False,
) -> None:
    del show_version
    # What the interpreter's last collections would look through makes a command end half a second of processor time
    # later, and gives nothing back that the end of the process does not.
    atexit.register(gc.freeze)


@app.command("serve")
def serve_command(config: ConfigOption) -> None:
    """Run the whole node on this machine: receive, dispatch, work, send."""
    with errors_are_messages():
        code = serve.serve(_settings_of_role(config), config)
    raise typer.Exit(code)


@app.command()
def receive(
    config: ConfigOption,
    *,
    connections: Annotated[int | None, typer.Option("--connections", hidden=True)] = None,
) -> None:
    """Run only the receiver and the dispatcher; workers and senders run elsewhere on the same database."""
    with errors_are_messages():
        if connections is None:
            serve.receive(_settings_of_role(config), config)
        else:
            serve.receive_handed_over(_settings(config), socket.socket(fileno=connections))


@app.command()
def work(
    config: ConfigOption,
    *,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Run only a worker."""
    with errors_are_messages():
        serve.work(_settings(config) if with_parent else _settings_of_role(config), with_parent=with_parent)


@app.command()
def send(config: ConfigOption) -> None:
    """Run only the sender."""
    with errors_are_messages():
        serve.send(_settings_of_role(config))


@app.command()
def check(
    config: ConfigOption,
    *,
    archive: Annotated[
        bool, typer.Option("--archive", help="Read every file of the archive and compare it with the database.")
    ] = False,
    destinations: Annotated[
        bool, typer.Option("--destinations", help="Call every destination, and ask whether it takes what it is to get.")
    ] = False,
) -> None:
    """Check the configuration: settings, database schema, archive, model packages and their backends."""
    from dicomnode.workshop import open_model  # noqa: PLC0415  its parts load only where models are opened

    with errors_are_messages():
        settings = _settings(config, "WARNING")  # what the log would say, this command says itself
        for file in open_to_all(settings, config):
            typer.echo(f"{file}: {OPEN_TO_ALL}", err=True)
        with open_stores(settings) as stores:
            typer.echo("database and archive: ready")
            if (level := stores.archive.level()) is not Level.AMPLE:
                typer.echo(
                    f"free in the archive: {stores.archive.free_bytes() / 1e9:.1f} GB - {status.ROOM_WORDS[level]}"
                )
            if settings.receiver.durability == "none":
                typer.echo(serve.NOT_DURABLE)
            make_receiver(settings, stores, OpenAssociations())  # certificates, and the users of peers
            if (expires_at := check_validity(settings.tls)) is not None:
                typer.echo(f"certificate: valid until {datetime.fromtimestamp(expires_at, UTC):%Y-%m-%d}")
            make_puller(settings, stores)
            if archive:
                _check_archive(stores)
        for item in settings.models:
            description = open_model(item, settings.tensorrt, settings.triton).engine.description
            typer.echo(
                f"model {description.package} {description.version}: {description.backend} {description.precision}"
                + (f" ({description.reason})" if description.reason else "")
            )
        if destinations:
            _check_destinations(settings)
        if level is Level.REFUSING:
            typer.echo("dicomnode: the configuration is valid, and nothing is taken until there is room", err=True)
            raise typer.Exit(1)
        typer.echo(f"configuration is valid. {NOT_FOR_CLINICAL_USE}")


def _check_destinations(settings: Settings) -> None:
    wire = make_wire(settings)
    failed = False
    for item in settings.destinations:
        try:
            refused = wire.refused_by(item)
        except DeliveryFailed as error:
            refused, told = ["everything"], str(error)
        else:
            told = f"does not take {', '.join(refused)}" if refused else f"takes {', '.join(item.objects)}"
        typer.echo(f"destination {item.name}: {told}", err=bool(refused))
        failed = failed or bool(refused)
    if failed:
        raise typer.Exit(1)


def _check_archive(stores: Stores) -> None:
    problems = 0
    for problem in check_archive(stores.database, stores.archive):
        problems += 1
        typer.echo(f"{problem.object_key}: {problem.reason}", err=True)
    if problems:
        typer.echo(f"dicomnode: {problems} problems in the archive", err=True)
        raise typer.Exit(1)
    typer.echo("every file is there and as it was received")


@app.command("status")
def status_command(config: ConfigOption, *, as_json: JsonOption = False) -> None:
    """Say what the node has, what waits, and what went wrong."""
    with errors_are_messages():
        settings = _settings(config)
        with open_stores(settings) as stores:
            names = [destination.name for destination in settings.destinations]
            overview = status.overview(stores.database, stores.archive, names)
    if as_json:
        typer.echo(json.dumps(status.as_json(overview), indent=2))
    else:
        status.show(overview, Console())


@app.command("retention")
def retention_command(
    config: ConfigOption,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove the studies that the rules of the section `retention` let go, as a running node does by itself."""
    with errors_are_messages():
        settings = _settings(config)
        with open_stores(settings) as stores:
            retention = make_retention(settings, stores)
            removed = 0
            while not dry_run and retention.do_one_round():
                removed += 1
            planned = list(retention.plan()) if dry_run else []
        for item in planned:
            days, megabytes = item.study.age_s / 86400, item.study.size_bytes / 1e6
            typer.echo(f"{item.study.study_instance_uid}: {item.reason}, {days:.1f} days old, {megabytes:.1f} MB")
        typer.echo(f"{len(planned)} studies would be removed" if dry_run else f"{removed} studies removed")


@app.command()
def reanalyse(
    config: ConfigOption,
    *,
    study: Annotated[list[str] | None, typer.Option(help="Its Study Instance UID; may be given again.")] = None,
    state: Annotated[
        list[StudyState] | None, typer.Option(help="done, failed or unmatched; may be given again. Default: each.")
    ] = None,
    newer_than: Annotated[float | None, typer.Option(help="Days since its last image came, at most.")] = None,
    older_than: Annotated[float | None, typer.Option(help="And at least.")] = None,
    other_model: Annotated[
        bool,
        typer.Option("--other-model", help="Only what the packages of now have not analysed, or not last."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be analysed.")] = False,
) -> None:
    """Analyse studies again, behind all new ones: after a change of model or configuration, or what failed.

    What is given narrows the choice. The new report names the one that it replaces.
    """
    if not (study or state or other_model or newer_than is not None or older_than is not None):
        raise typer.BadParameter("say which: --study, --state, --newer-than, --older-than or --other-model")
    if wrong := sorted(set(state or ()) - set(ANALYSABLE)):
        raise typer.BadParameter(f"no study that is {wrong[0]} can be analysed again")
    choice = Choice(
        states=tuple(state or (StudyState if study else (*ANALYSABLE, *GONE))),
        study_instance_uids=tuple(study) if study else None,
        minimum_age_s=(older_than or 0.0) * SECONDS_A_DAY,
        maximum_age_s=float("inf") if newer_than is None else newer_than * SECONDS_A_DAY,
    )
    queued, skipped = 0, 0
    with errors_are_messages():
        settings = _settings(config)
        with open_stores(settings) as stores:
            reanalysis = make_reanalysis(settings, stores)
            for verdict in reanalysis.go_through(choice, only_other_models=other_model, dry_run=dry_run):
                queued += bool(verdict.packages)
                skipped += not verdict.packages
                typer.echo(f"{verdict.study_instance_uid}: {verdict.skipped or 'by ' + ', '.join(verdict.packages)}")
    would = "would be" if dry_run else "are"
    typer.echo(f"{queued} studies {would} analysed again, {skipped} {would} left as they are")


@app.command()
def demo(
    study: Annotated[
        Path | None, typer.Option(help="A folder of DICOM files, any depth; default: two real patients.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("build/demo"),
) -> None:
    """Run the whole way once on real mammograms: send, store, analyse, return, draw."""
    from dicomnode.demo import run_demo  # noqa: PLC0415  the demo's parts load only for the demo

    with errors_are_messages():
        code = run_demo(study, out)
    raise typer.Exit(code)


@app.command("validate")
def validate_command(
    files: Annotated[list[Path], typer.Argument(exists=True, help="DICOM files, or folders of them at any depth.")],
    *,
    validator: Annotated[list[str] | None, typer.Option(help="Only this validator; may be given again.")] = None,
    own_words: Annotated[bool, typer.Option("--own-words", help="Print the validators' own lines too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check DICOM files with the validators that are installed, and say in plain words what is wrong.

    Exit code 0: nothing is wrong. 1: something is, or a file could not be checked. 2: wrong usage.
    """
    from dicomnode.validation import VALIDATORS  # noqa: PLC0415  its parts load only for this command
    from dicomnode.validation.command import validate  # noqa: PLC0415  the same

    unknown = sorted(set(validator or ()) - {item.name for item in VALIDATORS})
    if unknown:
        known = ", ".join(item.name for item in VALIDATORS)
        raise typer.BadParameter(f"there is no validator {', '.join(unknown)}; there are {known}")
    raise typer.Exit(validate(files, validator or (), Console(), own_words=own_words, json_wanted=as_json))


@db.command()
def upgrade(config: ConfigOption) -> None:
    """Bring the database to the schema of this version."""
    with errors_are_messages():
        upgrade_database(_settings(config))
        typer.echo("the database is up to date")


@db.command("rebuild")
def rebuild_command(
    config: ConfigOption,
    *,
    take_over: Annotated[bool, typer.Option("--take-over", help="From another database, now out of use.")] = False,
) -> None:
    """Make the rows of all received instances again from the archive's files alone; nothing that is there changes."""
    from dicomnode.keeping.rebuild import rebuild  # noqa: PLC0415  it loads image libraries
    from dicomnode.workshop import configuration_of  # noqa: PLC0415  the same

    with errors_are_messages():
        settings = _settings(config)
        upgrade_database(settings)
        with open_stores(settings, take_over=take_over) as stores:
            ownership.claim(stores.database, stores.archive)
            found = rebuild(stores.database, stores.archive, configuration_of(settings))
        for problem in found.problems:
            typer.echo(f"{problem.object_key}: {problem.reason}", err=True)
        typer.echo(f"{found.instances} instances added, {found.known} known, {len(found.problems)} files left out")
        if found.instances:
            typer.echo("with which priority they were sent no file says: they count as MEDIUM")
        if found.sent_again:
            typer.echo(f"of {len(found.sent_again)} studies the results may not have arrived: they are sent again")
    if found.problems:
        raise typer.Exit(1)


@db.command()
def requeue(
    config: ConfigOption,
    job: Annotated[int | None, typer.Option(help="A job that was given up.")] = None,
    delivery: Annotated[int | None, typer.Option(help="A delivery that was given up.")] = None,
    retrieval: Annotated[int | None, typer.Option(help="A retrieval that was given up.")] = None,
    destination: Annotated[str | None, typer.Option(help="All that was given up for this destination.")] = None,
) -> None:
    """Try again what was given up: a job, a delivery, a retrieval, by the number that `dicomnode status` shows."""
    if [job, delivery, retrieval, destination].count(None) != 3:  # noqa: PLR2004  one of the four is given
        raise typer.BadParameter("give one of --job, --delivery, --retrieval and --destination")
    with errors_are_messages(), open_stores(_settings(config)) as stores, stores.database.transaction() as connection:
        if destination is not None:
            typer.echo(f"{outbox.requeue_all(connection, destination)} deliveries queued again")
            return
        if job is not None:
            queue.requeue(connection, job)
        if delivery is not None:
            outbox.requeue(connection, delivery)
        if retrieval is not None:
            retrievals.requeue(connection, retrieval)
        typer.echo("queued again")
