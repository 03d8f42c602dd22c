"""Puts the worker and its models together from the settings.

Apart from `assembly`, because its imports (backends, image libraries) are most of a process's memory, and a receiver
needs none of them.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from dicomnode.assembly import Stores, process_name
from dicomnode.config.sections import ModelSettings, TensorRtSection, TritonSection
from dicomnode.config.settings import Settings
from dicomnode.errors import ConfigurationError
from dicomnode.keeping.provenance import Configuration, ConfiguredPackage
from dicomnode.logs import get_logger
from dicomnode.reading.analysis import Model
from dicomnode.reading.findings import CodedLabel, ScoreMeaning
from dicomnode.reading.selection import SelectionPolicy
from dicomnode.working.abreast import Abreast
from dicomnode.working.worker import Worker
from engines.base import Engine
from engines.detector import Detector
from engines.errors import EngineError
from engines.factory import SIDE_BY_SIDE, open_engine, open_region_engine
from engines.joining import JoiningDetector
from engines.package import ModelPackage, RegionPackage, find_package, load_any_package, manifest_sha256
from engines.rehearsal import rehearse
from engines.threads import MOST
from engines.triton.settings import TritonSettings
from engines.trt.settings import TensorRtSettings
from engines.volume import VolumeEngine

log = get_logger(__name__)

NO_SERVER = TritonSection()
TENSORRT = TensorRtSection()
ONE_IMAGE = "worker.jobs_at_once is ignored: the network takes one image at a time here, so jobs have no call to share"
NOT_SHOWN = "cancer_share is set, and the package has not shown that its probability of cancer is one"


def configuration_of(settings: Settings) -> Configuration:
    """What makes results, and where they go; an index is made again without a package that cannot be read."""
    packages = []
    for model in settings.models:
        try:
            package = load_any_package(find_package(model.package))
        except EngineError as error:
            log.warning("package unusable", package=model.package, reason=str(error))
            continue
        digest = manifest_sha256(package.folder)
        packages.append(ConfiguredPackage(model.package, package.manifest.name, digest))
    modalities = frozenset(modality for model in settings.models for modality in model.modalities)
    return Configuration(tuple(packages), settings.destinations, modalities)


def open_model(
    settings: ModelSettings, tensorrt: TensorRtSection = TENSORRT, triton: TritonSection = NO_SERVER
) -> Model:
    """A model package on its backend. Raises EngineError: a package or backend that cannot run is no surprise later.

    Raises ConfigurationError where it is given a modality that it was not made for.
    """
    package = load_any_package(find_package(settings.package))
    if foreign := set(settings.modalities) - set(package.manifest.modalities):
        raise ConfigurationError(
            f"models: {settings.package} is given {', '.join(sorted(foreign))}, and its manifest was made for"
            f" {', '.join(package.manifest.modalities)}: set modalities of the model to that"
        )
    scores = ScoreMeaning()
    views: tuple[str, ...] = ()
    view_ms = None
    engine: Engine | VolumeEngine
    if isinstance(package, RegionPackage):
        engine = open_region_engine(package, settings.backend)
    else:
        gpu = TensorRtSettings(tensorrt.cache, tensorrt.build_limit_s, tensorrt.memory)
        server = _server(settings, triton)
        engine = open_engine(package, settings.backend, settings.threads, settings.precision, gpu, server, MOST)
        view_ms = rehearse(engine)
        views = package.views
        share = _cancer_share(settings, package)
        if share is not None:
            engine = engine.with_cancer_share(share)
        scores = ScoreMeaning(share, package.manifest.prompt_threshold or 0.0, package.threshold)
    answers = engine.description
    log.info(
        "model opened",
        package=answers.package,
        version=answers.version,
        backend=answers.backend,
        precision=answers.precision,
        weights_sha256=answers.weights_sha256,
        reason=answers.reason,
        **({} if view_ms is None else {"view_ms": round(view_ms, 1)}),
    )
    return Model(
        engine=engine,
        digest=manifest_sha256(package.folder),
        labels=tuple(
            CodedLabel(item.name, item.value, item.scheme, item.meaning, item.category) for item in package.labels
        ),
        policy=policy_of(settings),
        scores=scores,
        views=views,
        threads=settings.threads,
    )


def _cancer_share(settings: ModelSettings, package: ModelPackage) -> float | None:
    """For which share of cancers the package states a probability; None where it has not shown that it can."""
    if settings.cancer_share is None:
        return None
    given = package.manifest.probability_of_cancer
    if given is None or not given.holds:
        log.warning("probability not stated", package=package.name, reason=NOT_SHOWN)
        return None
    return settings.cancer_share


def _server(settings: ModelSettings, triton: TritonSection) -> TritonSettings:
    return TritonSettings(
        triton.url or "",
        settings.triton_model or "",
        triton.limit_s,
        triton.shared_memory,
        triton.authorities,
        triton.certificate,
        triton.private_key,
    )


def policy_of(settings: ModelSettings) -> SelectionPolicy:
    """What a model may be given, as configured."""
    return SelectionPolicy(
        modalities=settings.modalities,
        accept_digitised_film=settings.accept_digitised_film,
        accept_lossy=settings.accept_lossy,
        accept_implants=settings.accept_implants,
        accept_partial_views=settings.accept_partial_views,
        accept_repeats=settings.accept_repeats,
        accept_synthetic_2d=settings.accept_synthetic_2d,
    )


Round = Callable[[], bool]


@contextmanager
def rounds_of_work(settings: Settings, stores: Stores, on_deadline: Callable[[], None]) -> Iterator[Round]:
    """The rounds of a worker with every configured model loaded; jobs have ended when it has. Raises EngineError."""
    if settings.worker.jobs_at_once == 1:
        models = {item.package: open_model(item, settings.tensorrt, settings.triton) for item in settings.models}
        yield _make_worker(settings, stores, models, on_deadline).do_one_round
        return
    with ThreadPoolExecutor(1, "network") as network:
        models = {item.package: _open_joined(item, settings, network) for item in settings.models}
        worker = _make_worker(settings, stores, models, on_deadline)
        joined = [model.engine.backend for model in models.values() if isinstance(model.engine, JoiningDetector)]
        if any(backend.largest_batch > 1 for backend in joined):
            with Abreast(worker, settings.worker.jobs_at_once) as abreast:
                yield abreast.do_one_round
        else:
            log.warning("one job at once", reason=ONE_IMAGE, jobs_at_once=settings.worker.jobs_at_once)
            yield worker.do_one_round
        for backend in joined:
            backend.close()


def _open_joined(item: ModelSettings, settings: Settings, network: ThreadPoolExecutor) -> Model:
    """A model for jobs on several threads; its backend is opened on the thread that will run it."""
    model = network.submit(open_model, item, settings.tensorrt, settings.triton).result()
    engine = model.engine
    if not isinstance(engine, Detector) or engine.backend.name in SIDE_BY_SIDE:
        return model  # any thread may use these, several at once
    return replace(model, engine=JoiningDetector.over(engine, network))


def _make_worker(
    settings: Settings, stores: Stores, models: Mapping[str, Model], on_deadline: Callable[[], None]
) -> Worker:
    return Worker(
        stores.database,
        stores.archive,
        models,
        settings.destinations,
        settings.worker,
        process_name("worker"),
        on_deadline,
    )
