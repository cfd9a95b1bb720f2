"""What an operator can set: read once, from flags, the environment and one TOML file.

Flags win over `DEVICEOPS_*` variables, those over the TOML file, that over the defaults.
This is the only file that reads the environment; everything else receives values.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import platformdirs
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "DEVICEOPS_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
DeviceKindName = Literal["cpu", "cuda", "rocm", "directml", "xpu", "mps"]


class ConfigError(Exception):
    """A setting is wrong; the message names it and where it was set. Exit code 2."""


def _application_folder(kind: Literal["config", "data"]) -> Path:
    folder: Path = getattr(platformdirs, f"user_{kind}_path")("deviceops", appauthor=False)
    return folder


def _data_dir(values: Mapping[str, Any]) -> Path:
    folder: Path = values.get("data_dir") or _application_folder("data")
    return folder


def _default_runtime_dir(values: dict[str, Any]) -> Path:
    """Beside the data: the platform's runtime folder is emptied at logout and differs
    between a service and a terminal, and the token must survive and be found from both.
    """
    return _data_dir(values) / "runtime"


def _default_model_roots(values: dict[str, Any]) -> tuple[Path, ...]:
    bundled = Path(__file__).resolve().parent.parent / "demo" / "models"
    own = _data_dir(values) / "models"
    return (bundled, own) if bundled.is_dir() else (own,)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def _split_paths(value: object) -> object:
    """Folders separated as in PATH, or a JSON list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part for part in value.split(os.pathsep) if part]


def _split_pairs(value: object) -> object:
    """`kind=path` pairs separated as in PATH, or a JSON object."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [part.partition("=") for part in value.split(os.pathsep) if part]
    if any(not separator for _, separator, _ in pairs):
        raise ValueError("expected kind=path pairs")
    return {kind.strip(): path for kind, _, path in pairs}


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]


class _FromKeywordsOnly(BaseSettings):
    """Built from keywords alone; `load` and `load_client` gather them from every source."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


Model = TypeVar("Model", bound=_FromKeywordsOnly)


class Settings(_FromKeywordsOnly):
    """Everything the server can be told; immutable. Units are in the names."""

    host: str = "127.0.0.1"
    port: Port = 50051
    """0 takes a free port; the port file says which."""
    metrics_port: Port = 50052
    """Prometheus, on loopback only; 0 turns it off."""
    data_dir: AbsolutePath = Field(default_factory=lambda: _application_folder("data"))
    runtime_dir: AbsolutePath = Field(default_factory=_default_runtime_dir)
    """Holds the access token and the port file."""
    model_roots: Annotated[
        tuple[AbsolutePath, ...], BeforeValidator(_split_paths), Field(min_length=1)
    ] = Field(default_factory=_default_model_roots)
    default_model: str = ""
    """Empty: the first checkpoint of the catalogue."""
    default_device: str = ""
    """Empty: the best device that discovery found."""
    auth: bool = True
    reflection: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""

    max_message_bytes: int = Field(4 * 2**20, ge=2**16, le=2**31 - 1)
    max_metadata_bytes: int = Field(16 * 2**10, ge=2**12, le=2**20)
    max_concurrent_streams: Count = 100
    """HTTP/2 streams of one connection."""
    max_concurrent_calls: Count = 64
    """Calls of all connections together, watches and health not counted."""
    max_watch_calls: Count = 256
    """Watch calls of all connections together: idle most of the time, counted apart."""
    queue_length_per_device: Count = 64

    sessions_kept: Count = 1_000
    session_retention_seconds: Seconds = 3_600
    artifact_quota_bytes: int = Field(20 * 2**30, ge=2**20)
    artifact_retention_seconds: Seconds = 7 * 86_400

    drain_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30
    heartbeat_seconds: Seconds = 5
    slow_reader_seconds: Seconds = 30
    cancel_grace_seconds: Seconds = 10
    hang_seconds: Seconds = 60
    worker_start_seconds: Seconds = 120
    worker_python: Annotated[
        Mapping[DeviceKindName, AbsolutePath], BeforeValidator(_split_pairs)
    ] = Field(default_factory=dict)
    """Interpreter by device kind; kinds not named use the server's own."""

    tls_certificate: AbsolutePath | None = None
    """PEM, chain included. Needs tls_key."""
    tls_key: AbsolutePath | None = None
    tls_client_ca: AbsolutePath | None = None
    """PEM; when set, clients must show a certificate it signed."""

    @property
    def token_path(self) -> Path:
        """Where the access token lies."""
        return self.runtime_dir / "token"

    @property
    def tls(self) -> bool:
        """Whether calls are encrypted."""
        return self.tls_certificate is not None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        for name in ("tls_certificate", "tls_key", "tls_client_ca"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: there is no such file")
        for kind, path in self.worker_python.items():
            if not path.is_file():
                raise ValueError(f"worker_python: no interpreter for {kind} at that path")
        if "model_roots" in self.model_fields_set:
            missing = [str(root) for root in self.model_roots if not root.is_dir()]
            if missing:
                raise ValueError(f"model_roots: no such folder: {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key: set both or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca: needs tls_certificate and tls_key")
        if not self.loopback and not (self.tls and self.auth):
            raise ValueError(
                f"host: {self.host} can be reached from other machines, which needs TLS"
                " (tls_certificate and tls_key) and the access token (auth = true);"
                " use 127.0.0.1 to serve this machine only"
            )
        return self


class ClientSettings(_FromKeywordsOnly):
    """How the command line reaches a server. Variables: DEVICEOPS_ADDRESS and so on."""

    address: str = ""
    """`host:port`; empty: the port file of the server on this machine."""
    token: SecretStr = SecretStr("")
    """Empty: the token file of the server on this machine."""
    tls_ca: AbsolutePath | None = None
    """PEM that signed the server's certificate; its presence means TLS."""
    client_certificate: AbsolutePath | None = None
    client_key: AbsolutePath | None = None


@dataclass(frozen=True)
class SettingValue:
    """One setting as `deviceops config` shows it."""

    name: str
    value: str | int | float | bool | list[str] | dict[str, str] | None
    source: str
    """`--port`, `DEVICEOPS_PORT`, the TOML file's path, or `default`."""


def load(**flags: Any) -> Settings:
    """The settings of this process.

    Args:
        flags: Values from the command line by field name, None where not given; and
            `config`, the TOML file to read instead of the usual one.

    Raises:
        ConfigError: A value is wrong, a key is unknown, or the TOML file is unreadable.
    """
    environment = _environment()
    named = flags.pop("config", None) or environment.get(CONFIG_VARIABLE)
    path = Path(named).expanduser() if named else _application_folder("config") / "config.toml"
    layers = [
        _flag_layer(Settings, flags),
        _environment_layer(Settings, environment),
        _file_layer(path, required=bool(named)),
    ]
    return _build(Settings, layers)


def load_client(**flags: Any) -> ClientSettings:
    """How to reach a server: flags over `DEVICEOPS_*` variables. Raises ConfigError."""
    layers = [
        _flag_layer(ClientSettings, flags),
        _environment_layer(ClientSettings, _environment()),
    ]
    return _build(ClientSettings, layers)


def describe(settings: Settings) -> list[SettingValue]:
    """Every setting with its value and where it came from, in order of declaration."""
    values = settings.model_dump(mode="json")
    return [
        SettingValue(name, values[name], settings._sources.get(name, "default"))
        for name in Settings.model_fields
    ]


@dataclass(frozen=True)
class _Layer:
    values: dict[str, Any]
    labels: dict[str, str]


def _environment() -> dict[str, str]:
    """Our variables that are not empty, by upper-case name."""
    ours = {name.upper(): value for name, value in os.environ.items()}  # noqa: TID251
    ours = {name: value for name, value in ours.items() if name.startswith(PREFIX) and value}
    known = {
        PREFIX + name.upper()
        for model in (Settings, ClientSettings)
        for name in model.model_fields
    }
    for name in sorted(ours.keys() - known - {CONFIG_VARIABLE}):
        raise ConfigError(f"{name}: there is no such setting")
    return ours


def _flag_layer(model: type[_FromKeywordsOnly], flags: Mapping[str, Any]) -> _Layer:
    given = {name: value for name, value in flags.items() if value is not None}
    for name in given.keys() - model.model_fields.keys():
        raise ConfigError(f"{name}: there is no such setting")
    return _Layer(given, {name: "--" + name.replace("_", "-") for name in given})


def _environment_layer(
    model: type[_FromKeywordsOnly], environment: Mapping[str, str]
) -> _Layer:
    names = [name for name in model.model_fields if PREFIX + name.upper() in environment]
    labels = {name: PREFIX + name.upper() for name in names}
    return _Layer({name: environment[label] for name, label in labels.items()}, labels)


def _file_layer(path: Path, *, required: bool) -> _Layer:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: there is no such file") from None
        return _Layer({}, {})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for name in values.keys() - Settings.model_fields.keys():
        raise ConfigError(f"{path}: {name}: there is no such setting")
    folder = path.absolute().parent
    values = {name: _anchored(name, value, folder) for name, value in values.items()}
    return _Layer(values, dict.fromkeys(values, str(path)))


def _anchored(name: str, value: Any, folder: Path) -> Any:
    """Paths of a TOML file are relative to the file, wherever the server is started."""
    annotation = Settings.model_fields[name].annotation
    if annotation is not Path and Path not in _leaves(annotation):
        return value
    if isinstance(value, str):
        return folder / Path(value).expanduser()
    if isinstance(value, list):
        return [_anchored(name, part, folder) for part in value]
    if isinstance(value, dict):
        return {key: _anchored(name, part, folder) for key, part in value.items()}
    return value


def _leaves(annotation: object) -> set[object]:
    parts = get_args(annotation)
    return set().union(*map(_leaves, parts)) if parts else {annotation}


def _build(model: type[Model], layers: list[_Layer]) -> Model:
    values: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for layer in reversed(layers):
        values.update(layer.values)
        labels.update(layer.labels)
    try:
        settings = model(**values)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_sentence(fault, labels) for fault in error.errors())
        ) from None
    settings._sources.update(labels)
    return settings


def _sentence(fault: Any, labels: Mapping[str, str]) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    return f"{name} ({labels.get(name, 'default')}): {message}"
