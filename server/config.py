"""What an operator can set: read once, from flags, the environment and one TOML file.

Flags win over `DEVICEOPS_*` variables, those over the TOML file, that over the defaults.
This is the only file that reads the environment; everything else receives values.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from server import config_paths
from server.cluster_address import checked_ray_address
from server.config_sources import (
    ConfigError,
    build,
    environment_layer,
    file_layer,
    flag_layer,
    without_service_links,
)

__all__ = ["ClientSettings", "ConfigError", "SettingValue", "Settings"]
__all__ += ["describe", "load", "load_client"]

PREFIX = "DEVICEOPS_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
# Set, it makes torch execute whatever an old model file asks for.
_UNSAFE_VARIABLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
DEVICE_KINDS = ("cpu", "cuda", "rocm", "directml", "xpu", "mps")


def _application_folder(kind: Literal["config", "data"]) -> Path:
    """The platform's own. Raises ConfigError where this user has no home for it."""
    try:
        folder: Path = getattr(platformdirs, f"user_{kind}_path")("deviceops", appauthor=False)
    except RuntimeError:
        raise ConfigError(
            "data_dir: this user has no home folder; name another one with --data-dir"
        ) from None
    return folder


def _usual_file() -> Path | None:
    """The TOML file where none is named; None where there is no place for one."""
    try:
        return _application_folder("config") / "config.toml"
    except ConfigError:
        return None


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


AbsolutePath = Annotated[Path, AfterValidator(config_paths.absolute)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]


_FILES = (
    *("tls_certificate", "tls_key", "tls_client_ca"),
    *("provenance_certificate", "provenance_key", "provenance_anchors"),
)
_IMMUTABLE = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Settings(BaseModel):
    """Everything an operator can set; immutable. Units are in the names.

    Made from keywords; `load` gathers them from every source.
    """

    model_config = _IMMUTABLE
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    host: str = "127.0.0.1"
    port: Port = 50051
    """0 takes a free port; the port file says which."""
    metrics_port: Port = 50052
    """Prometheus, on loopback only; 0 turns it off."""
    data_dir: AbsolutePath = Field(default_factory=lambda: _application_folder("data"))
    runtime_dir: AbsolutePath = Field(default_factory=_default_runtime_dir)
    """Holds the access token and the port file."""
    model_roots: Annotated[
        tuple[AbsolutePath, ...], BeforeValidator(config_paths.split_paths), Field(min_length=1)
    ] = Field(default_factory=_default_model_roots)
    read_only_model_roots: Annotated[
        tuple[AbsolutePath, ...], BeforeValidator(config_paths.split_paths)
    ] = ()
    """Model roots in which nothing is changed or deleted, whatever the system allows."""
    default_model: str = ""
    """Empty: the first checkpoint of the catalogue."""
    preload: bool = True
    """Load the default model on the default device when the server starts, if it fits."""
    convert_pickles: bool = True
    """Whether .ckpt, .pt, .pth and .bin files are imported and converted; nothing in them is
    ever run."""
    default_device: str = ""
    """Empty: the best device that discovery found."""
    ray_address: Annotated[str, AfterValidator(checked_ray_address)] = ""
    """`host:port` of the head of a Ray cluster, whose other machines' devices are used too;
    empty: only those of this machine."""
    device_refresh_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 600
    """Between looks for devices that appeared or vanished; 0: only after a lost worker."""
    auth: bool = True
    reflection: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""

    max_message_bytes: Annotated[int, Field(ge=2**16, le=2**31 - 1)] = 4 * 2**20
    max_metadata_bytes: Annotated[int, Field(ge=2**12, le=2**20)] = 16 * 2**10
    max_concurrent_streams: Count = 1_000
    """HTTP/2 streams of one connection. Calls beyond wait, also those that would cancel."""
    max_connections: Count = 1_000
    """Connections at once; more are closed as they come."""
    idle_connection_seconds: Seconds = 300
    """Without a call, before a connection is closed; clients open another by themselves."""
    max_control_calls: Count = 256
    """Calls that look and control, of all connections together."""
    max_concurrent_calls: Count = 64
    """Calls that move bytes or wait for a device, of all connections together."""
    max_session_calls: Count = 256
    """Calls that stream a session they started. A full queue can say so only while this is
    more than the sessions that all devices' queues hold."""
    max_watch_calls: Count = 256
    """Watch calls: idle most of the time."""
    max_tokenless_calls: Count = 32
    """Health checks without the token, and as many such watches."""
    control_call_seconds: Seconds = 60
    """Longest time of a call that looks or controls, whatever its deadline."""
    work_call_seconds: Seconds = 600
    """The same of one that waits for a device and does not stream."""
    stream_seconds: Seconds = 86_400
    """The same of a stream that belongs to no session."""
    idle_stream_seconds: Seconds = 60
    """How long a client may leave the server waiting for its next message."""
    tokenless_watch_seconds: Seconds = 60
    """Longest time of a watch of health without the token."""
    queue_length_per_device: Count = 64
    time_slice_seconds: Seconds = 30
    """How long a session works, from its first step on, while another client's of the same
    priority waits for its device."""

    sessions_kept: Count = 1_000
    session_retention_seconds: Seconds = 3_600
    artifact_quota_bytes: Annotated[int, Field(ge=2**20, le=2**50)] = 20 * 2**30
    artifact_min_free_bytes: Annotated[int, Field(ge=0, le=2**50)] = 2**28
    """Free disk space below which nothing more is kept: the rest is for the journal, logs
    and other programs."""
    artifact_retention_seconds: Seconds = 7 * 86_400
    allocation_quota_bytes: Annotated[int, Field(ge=0, le=2**50)] | None = None
    """Most bytes of one memory that one client may hold; empty: half of it, 0: no limit."""
    model_cache_bytes: Annotated[int, Field(ge=0, le=2**50)] | None = None
    """Main memory for models that are kept ready to load; empty: a quarter of it where a
    device has memory of its own, else an eighth; 0: none."""
    pressure_elevated: Share = 0.80
    """Used share of a memory from which idle models are unloaded."""
    pressure_high: Share = 0.90
    """Used share from which nothing more is allocated there."""
    pressure_critical: Share = 0.95
    """Used share from which new work is refused; of main memory no more is ever allocated."""
    pressure_hysteresis: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0.05
    """A level ends this far below the share where it begins."""

    provenance_manifest: bool = False
    """Whether pictures of which nobody says otherwise get a signed C2PA manifest."""
    provenance_watermark: bool = False
    """Whether they get this server's invisible mark."""
    provenance_certificate: AbsolutePath | None = None
    """PEM of the certificates that manifests are signed with, the signer's first. Needs
    provenance_key; empty: a pair is made in the data folder when the first is signed."""
    provenance_key: AbsolutePath | None = None
    provenance_anchors: AbsolutePath | None = None
    """PEM of authorities whose signers VerifyImage trusts beside this server's own."""

    drain_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30
    heartbeat_seconds: Seconds = 5
    slow_reader_seconds: Seconds = 30
    cancel_grace_seconds: Seconds = 10
    hang_seconds: Seconds = 60
    """Without progress, before a run on an accelerator counts as hung."""
    cpu_hang_seconds: Seconds = 900
    """The same on a processor, where one step of a large model takes minutes."""
    worker_start_seconds: Seconds = 120
    worker_python: Annotated[
        Mapping[str, AbsolutePath], BeforeValidator(config_paths.split_pairs)
    ] = Field(default_factory=dict)
    """Interpreter by device kind ("directml"); kinds not named use the server's own."""

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
    def own_models(self) -> Path:
        """The folder for models that come in later; a model root by default."""
        return self.data_dir / "models"

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
        for name in _FILES:
            path = getattr(self, name)
            if path is not None and not config_paths.is_file(name, path):
                raise ValueError(f"{name}: there is no such file")
        for kind, path in self.worker_python.items():
            if kind not in DEVICE_KINDS:
                raise ValueError(f"worker_python: {kind} is none of {', '.join(DEVICE_KINDS)}")
            if not config_paths.is_file("worker_python", path):
                raise ValueError(f"worker_python: no interpreter for {kind} at that path")
        for path in self.read_only_model_roots:
            if path not in self.model_roots:
                raise ValueError(f"read_only_model_roots: {path} is none of model_roots")
        if "model_roots" in self.model_fields_set:
            found = {
                root: config_paths.is_folder("model_roots", root) for root in self.model_roots
            }
            missing = [str(root) for root in self.model_roots if not found[root]]
            if missing:
                raise ValueError(f"model_roots: no such folder: {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _check_pressure(self) -> Self:
        if not self.pressure_elevated < self.pressure_high < self.pressure_critical:
            raise ValueError(
                "pressure_elevated, pressure_high, pressure_critical: must rise in this order"
            )
        return self

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        if self.port and self.port == self.metrics_port and ":" not in self.host:
            raise ValueError(f"metrics_port: {self.port} is port already; choose another")
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key: set both or neither")
        if (self.provenance_certificate is None) != (self.provenance_key is None):
            raise ValueError("provenance_certificate and provenance_key: set both or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca: needs tls_certificate and tls_key")
        if not self.loopback and not (self.tls and self.auth):
            raise ValueError(
                f"host: {self.host} can be reached from other machines, which needs TLS"
                " (tls_certificate and tls_key) and the access token (auth = true);"
                " use 127.0.0.1 to serve this machine only"
            )
        return self


class ClientSettings(BaseModel):
    """How the command line reaches a server. Variables: DEVICEOPS_ADDRESS and so on."""

    model_config = _IMMUTABLE

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
    path = Path(named) if named else _usual_file()
    layers = [flag_layer(Settings, flags), environment_layer(Settings, environment, PREFIX)]
    if path is not None:
        layers.append(file_layer(Settings, path, required=bool(named)))
    settings, sources = build(Settings, layers)
    settings._sources.update(sources)
    return settings


def load_client(**flags: Any) -> ClientSettings:
    """How to reach a server: flags over `DEVICEOPS_*` variables. Raises ConfigError."""
    environment = environment_layer(ClientSettings, _environment(), PREFIX)
    settings, _ = build(ClientSettings, [flag_layer(ClientSettings, flags), environment])
    return settings


def describe(settings: Settings) -> list[SettingValue]:
    """Every setting with its value and where it came from, in order of declaration."""
    values = settings.model_dump(mode="json")
    return [
        SettingValue(name, values[name], settings._sources.get(name, "default"))
        for name in Settings.model_fields
    ]


def _environment() -> dict[str, str]:
    """Our variables that are not empty, by upper-case name."""
    if os.environ.get(_UNSAFE_VARIABLE):  # noqa: TID251
        raise ConfigError(f"{_UNSAFE_VARIABLE}: unset it; it lets model files run code")
    ours = {name.upper(): value for name, value in os.environ.items()}  # noqa: TID251
    ours = {name: value for name, value in ours.items() if name.startswith(PREFIX) and value}
    ours = without_service_links(ours, PREFIX)
    known = {
        PREFIX + name.upper()
        for model in (Settings, ClientSettings)
        for name in model.model_fields
    }
    for name in sorted(ours.keys() - known - {CONFIG_VARIABLE}):
        raise ConfigError(f"{name}: there is no such setting")
    return ours
