"""All settings: one TOML file, overridden by environment variables such as DICOMNODE_DATABASE__URL."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from dicomnode.config.mistakes import LEVEL, PREFIX, in_words, unknown_sections
from dicomnode.config.sections import (
    ArchiveSettings,
    CompletenessSettings,
    DatabaseSettings,
    DestinationSettings,
    IdentitySettings,
    LoggingSettings,
    MetricsSettings,
    ModelSettings,
    NodeSettings,
    PullSettings,
    QueueSettings,
    ReceiverSettings,
    RetentionSettings,
    SenderSettings,
    TensorRtSection,
    TlsSettings,
    TritonSection,
    WorkerSettings,
)
from dicomnode.errors import ConfigurationError


class Settings(BaseSettings):
    """Everything that a process of the node is told. Read once, in the CLI."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter=LEVEL, hide_input_in_errors=True
    )

    node: NodeSettings
    receiver: ReceiverSettings = ReceiverSettings()
    tls: TlsSettings = TlsSettings()
    identity: IdentitySettings = IdentitySettings()
    database: DatabaseSettings
    archive: ArchiveSettings
    retention: RetentionSettings = RetentionSettings()
    completeness: CompletenessSettings = CompletenessSettings()
    queue: QueueSettings = QueueSettings()
    pull: PullSettings = PullSettings()
    worker: WorkerSettings = WorkerSettings()
    sender: SenderSettings = SenderSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()
    triton: TritonSection = TritonSection()
    tensorrt: TensorRtSection = TensorRtSection()
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]
    destinations: Annotated[tuple[DestinationSettings, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("destination name", [destination.name for destination in self.destinations]),
            ("model package", [model.package for model in self.models]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                msg = f"{what} given twice: {', '.join(twice)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _triton_has_a_server(self) -> Self:
        served = [model.package for model in self.models if model.backend == "triton"]
        if served and not self.triton.url:
            msg = f"model {served[0]} wants the backend triton, and [triton] names no url"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _room_is_known(self) -> Self:
        if self.archive.url is not None and self.retention.below_free_bytes is not None:
            msg = "retention.below_free_bytes: a bucket does not say how much room it has, use after_days"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _who_is_asked_is_known(self) -> Self:
        names = {destination.name for destination in self.destinations}
        for setting, asked in (("completeness.ask", self.completeness.ask), ("pull.source", self.pull.source)):
            if asked is not None and asked not in names:
                msg = f"{setting}: there is no destination {asked!r}"
                raise ValueError(msg)
        if self.pull.missing and self.completeness.ask != self.pull.source:
            msg = "pull.missing: completeness.ask must name the same destination, which says what is missing"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _tls_has_a_certificate(self) -> Self:
        secured = [destination.name for destination in self.destinations if destination.tls]
        if secured and self.tls.certificate is None:
            msg = f"destination {secured[0]} wants tls, and [tls] names no certificate"
            raise ValueError(msg)
        return self


def load_settings(path: Path) -> Settings:
    """Settings from a TOML file and the environment. Raises ConfigurationError that names each wrong setting."""
    if not path.is_file():
        raise ConfigurationError(f"there is no configuration file {path}")
    if unknown := unknown_sections(os.environ, Settings.model_fields):
        raise ConfigurationError(f"the environment variable {unknown[0]} sets nothing: there is no such section")

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del init_settings, dotenv_settings, file_secret_settings
            return env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path)

    try:
        return FromFile()  # type: ignore[call-arg]  # the sources above fill the fields
    except ValidationError as error:
        lines = "".join(f"\n  {line}" for line in in_words(error, Settings))
        raise ConfigurationError(f"{path} is not a valid configuration:{lines}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
