"""Where settings come from: layers of raw values, each with a label for messages."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(Exception):
    """A setting is wrong; the message names it and where it was set. Exit code 2."""


@dataclass(frozen=True)
class Layer:
    """Raw values by field name, and for each where it was set."""

    values: dict[str, Any]
    labels: dict[str, str]


def flag_layer(model: type[BaseModel], flags: Mapping[str, Any]) -> Layer:
    """Values from the command line; None means not given."""
    given = {name: value for name, value in flags.items() if value is not None}
    _refuse_unknown(given.keys() - model.model_fields.keys(), "")
    return Layer(given, {name: "--" + name.replace("_", "-") for name in given})


def without_service_links(environment: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The variables but those that Kubernetes makes for a service of the prefix's name."""
    link = re.compile(
        rf"{prefix}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
    )
    return {
        name: value
        for name, value in environment.items()
        if not link.fullmatch(name)
        and not (name == f"{prefix}PORT" and re.match(r"(tcp|udp|sctp)://", value))
    }


def environment_layer(
    model: type[BaseModel], environment: Mapping[str, str], prefix: str
) -> Layer:
    """Values from variables named as the fields, in upper case after the prefix."""
    labels = {name: prefix + name.upper() for name in model.model_fields}
    labels = {name: label for name, label in labels.items() if label in environment}
    return Layer({name: environment[label] for name, label in labels.items()}, labels)


def file_layer(model: type[BaseModel], path: Path, *, required: bool) -> Layer:
    """Values from a TOML file. Paths in it are relative to its folder; an empty one is as none.

    Raises:
        ConfigError: It cannot be read, or is missing although required.
    """
    try:
        path = path.expanduser()
        values = tomllib.loads(
            path.read_text(encoding="utf-8-sig")
        )  # as Windows' editors save it
    except RuntimeError:
        raise ConfigError(f"{path}: {path.parts[0]} is nobody's home here") from None
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: there is no such file") from None
        return Layer({}, {})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    _refuse_unknown(values.keys() - model.model_fields.keys(), f"{path}: ")
    for name in values.keys() & _path_fields(model):
        if values[name] == "":
            del values[name]
        else:
            values[name] = _anchored(values[name], path.absolute().parent)
    return Layer(values, dict.fromkeys(values, str(path)))


def build(model: type[Model], layers: Iterable[Layer]) -> tuple[Model, dict[str, str]]:
    """The model from the layers, the first one winning, and where each value was set.

    Raises:
        ConfigError: A value is wrong.
    """
    values: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for layer in reversed(list(layers)):
        values.update(layer.values)
        labels.update(layer.labels)
    try:
        return model(**values), labels
    except ValidationError as error:
        # A default that is computed from a wrong value is not one more fault.
        faults = [f for f in error.errors() if f["type"] != "default_factory_not_called"]
        raise ConfigError("; ".join(_sentence(fault, labels) for fault in faults)) from None


def _refuse_unknown(names: Iterable[str], where: str) -> None:
    for name in sorted(names):
        raise ConfigError(f"{where}{name}: there is no such setting")


def _path_fields(model: type[BaseModel]) -> set[str]:
    fields = model.model_fields.items()
    return {name for name, field in fields if Path in _leaves(field.annotation)}


def _leaves(annotation: object) -> set[object]:
    parts = get_args(annotation)
    return set().union(*map(_leaves, parts)) if parts else {annotation}


def _anchored(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return Path(value) if value.startswith("~") else folder / value  # somebody's home
    if isinstance(value, list):
        return [_anchored(part, folder) for part in value]
    if isinstance(value, dict):
        return {key: _anchored(part, folder) for key, part in value.items()}
    return value


def _sentence(fault: Any, labels: Mapping[str, str]) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    return f"{name} ({labels.get(name, 'default')}): {message}"
