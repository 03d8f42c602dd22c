"""The example configuration is the documentation of the settings, so it must name them all and tell the truth."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dicomnode.config.settings import Settings, load_settings

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "dicomnode.toml"

Cases = list[tuple[str, str, object]]


def _settings() -> Cases:
    """Section, setting and default of every setting that there is."""
    found: Cases = []
    for section, field in Settings.model_fields.items():
        model = _model(field.annotation)
        found += [(section, name, _default(setting)) for name, setting in model.model_fields.items()]
    return found


def _default(setting: FieldInfo) -> object:
    """None too where it depends on another setting: such a line stands there as a comment."""
    return None if setting.default_factory is not None else setting.default


def _as_in_toml(default: object) -> object:
    if isinstance(default, Path):
        return str(default)
    return list(default) if isinstance(default, tuple) else default


def _model(annotation: Any) -> type[BaseModel]:
    if get_origin(annotation) in (tuple, UnionType):
        annotation = get_args(annotation)[0]
    assert issubclass(annotation, BaseModel)
    return annotation


@pytest.mark.parametrize(("section", "name", "default"), _settings())
def test_every_setting_stands_there_with_its_default(section: str, name: str, default: object) -> None:
    """A setting that is not in the example, or with another default than the code's, is undocumented."""
    block = tomllib.loads(EXAMPLE.read_text())[section]
    values: Mapping[str, object] = block[0] if isinstance(block, list) else block
    if default is None:
        assert f"# {name} =" in EXAMPLE.read_text()
        return
    line = next(line for line in EXAMPLE.read_text().splitlines() if line.startswith(f"{name} = "))
    assert name in values
    if default is not PydanticUndefined and "yours" not in line:
        assert values[name] == _as_in_toml(default)


def test_the_example_is_valid() -> None:
    """The node starts with what the example says."""
    settings = load_settings(EXAMPLE)
    assert settings.destinations[0].objects == ("sr", "seg")
