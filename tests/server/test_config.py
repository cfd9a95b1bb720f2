"""Settings: which source wins, what is refused, and that messages name the culprit."""

from __future__ import annotations

import os
from pathlib import Path

import grpc.aio
import pytest

from server import cluster_address, config, listen
from server.config import ConfigError, Settings

NOT_LOOKED_AT = "x" * 300  # as what lies in a folder that one may not enter


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DEVICEOPS_")]:  # noqa: TID251
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEVICEOPS_CONFIG", str(write_toml(tmp_path, "")))


def write_toml(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def source(settings: Settings, name: str) -> str:
    return next(entry.source for entry in config.describe(settings) if entry.name == name)


def test_flag_wins_over_environment_over_file_over_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = write_toml(tmp_path, "port = 1003\nlog_level = 'debug'\nqueue_length_per_device = 3")
    monkeypatch.setenv("DEVICEOPS_PORT", "1002")
    monkeypatch.setenv("DEVICEOPS_LOG_LEVEL", "warning")
    settings = config.load(port=1001, auth=None)
    assert settings.port == 1001
    assert source(settings, "port") == "--port"
    assert settings.log_level == "warning"
    assert source(settings, "log_level") == "DEVICEOPS_LOG_LEVEL"
    assert settings.queue_length_per_device == 3
    assert source(settings, "queue_length_per_device") == str(file)
    assert settings.auth is True
    assert source(settings, "auth") == "default"


def test_constructed_settings_do_not_look_at_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEVICEOPS_PORT", "1002")
    assert Settings().port == 50051
    assert config.load().port == 1002


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


def test_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICEOPS_PORT", "")
    assert config.load().port == 50051


def test_what_kubernetes_says_of_a_service_of_that_name_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "SERVICE_HOST": "10.0.0.7",
        "SERVICE_PORT": "50051",
        "SERVICE_PORT_GRPC": "50051",
        "PORT": "tcp://10.0.0.7:50051",
        "PORT_50051_TCP": "tcp://10.0.0.7:50051",
        "PORT_50051_TCP_ADDR": "10.0.0.7",
    }.items():
        monkeypatch.setenv(f"DEVICEOPS_{name}", value)
    assert config.load() == Settings()
    monkeypatch.setenv("DEVICEOPS_PORT", "tcp")
    with pytest.raises(ConfigError, match=r"port \(DEVICEOPS_PORT\)"):
        config.load()


def test_config_flag_names_the_file(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("port = 7")
    assert config.load(config=other).port == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "prot: there is no such setting"),
        ("port = 70000", r"port \(.*settings.toml\): .*65535"),
        ("port = ", "not a TOML file"),
        ("drain_seconds = nan", "drain_seconds"),
        ("heartbeat_seconds = 0", "heartbeat_seconds"),
        ("worker_python = {vulkan = '.'}", "vulkan is none of cpu"),
        ("worker_python = {cpu = 'no-such-python'}", "no interpreter for cpu"),
        ("model_roots = []", "model_roots"),
        ("read_only_model_roots = ['/elsewhere']", "none of model_roots"),
        ("model_roots = ['no-such-folder']", "no such folder"),
        ("tls_certificate = 'missing.pem'", "tls_certificate: there is no such file"),
        (f"tls_key = '{NOT_LOOKED_AT}'", "tls_key: .* cannot be looked at: "),
        (
            f"worker_python = {{cpu = '{NOT_LOOKED_AT}'}}",
            "worker_python: .* cannot be looked at",
        ),
        (f"model_roots = ['{NOT_LOOKED_AT}']", "model_roots: .* cannot be looked at: "),
        ("log_format = 'xml'", "log_format"),
        ("port = 50052", "metrics_port: 50052 is port already"),
        ("allocation_quota_bytes = -1", "allocation_quota_bytes"),
        ("pressure_high = 0.96", "pressure_critical: must rise"),
        ("pressure_elevated = 1.1", "pressure_elevated"),
    ],
)
def test_wrong_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    write_toml(tmp_path, text)
    with pytest.raises(ConfigError, match=message):
        config.load()


def test_unknown_variable_and_flag_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="prot: there is no such setting"):
        config.load(prot=1)
    monkeypatch.setenv("DEVICEOPS_PROT", "1")
    with pytest.raises(ConfigError, match="DEVICEOPS_PROT: there is no such setting"):
        config.load()


def test_every_wrong_value_is_named_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICEOPS_METRICS_PORT", "many")
    with pytest.raises(ConfigError) as caught:
        config.load(port=-1)
    assert str(caught.value).count(";") == 1
    assert "port (--port)" in str(caught.value)
    assert "metrics_port (DEVICEOPS_METRICS_PORT)" in str(caught.value)


@pytest.mark.parametrize("address", ["head", ":6379", "head:x", "head:0", "head:65536"])
def test_a_cluster_is_named_by_host_and_port(address: str) -> None:
    with pytest.raises(ConfigError, match=r"ray_address .*: expected host:port"):
        config.load(ray_address=address)


def test_a_cluster_needs_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_address, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ray_address .*: Ray is not installed; .*\[ray\]"):
        config.load(ray_address="127.0.0.1:6379")
    assert config.load(ray_address="").ray_address == ""


def test_missing_file_is_an_error_only_when_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEVICEOPS_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigError, match=r"missing\.toml: there is no such file"):
        config.load()
    monkeypatch.delenv("DEVICEOPS_CONFIG")
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "none")
    assert config.load().port == 50051


def test_a_file_may_begin_with_the_mark_that_editors_of_windows_put_there(
    tmp_path: Path,
) -> None:
    write_toml(tmp_path, "\ufeffport = 7")
    assert config.load().port == 7


def test_an_empty_path_in_a_file_is_as_none(tmp_path: Path) -> None:
    write_toml(tmp_path, "data_dir = ''\nprovenance_certificate = ''")
    settings = config.load()
    assert settings.data_dir == Settings().data_dir
    assert settings.provenance_certificate is None


def test_without_a_home_the_data_folder_is_asked_for_and_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("DEVICEOPS_CONFIG")
    monkeypatch.setattr("platformdirs.user_config_path", refuse)
    monkeypatch.setattr("platformdirs.user_data_path", refuse)
    with pytest.raises(ConfigError, match=r"data_dir: this user has no home .* --data-dir"):
        config.load()
    assert config.load(data_dir=tmp_path).data_dir == tmp_path


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(config=tmp_path)


def test_lists_and_tables_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.touch()
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        root.mkdir()
    monkeypatch.setenv("DEVICEOPS_MODEL_ROOTS", os.pathsep.join(map(str, roots)))
    monkeypatch.setenv("DEVICEOPS_WORKER_PYTHON", f"directml={python}")
    settings = config.load()
    assert settings.model_roots == tuple(roots)
    assert settings.worker_python == {"directml": python}
    monkeypatch.setenv("DEVICEOPS_WORKER_PYTHON", "directml")
    with pytest.raises(ConfigError, match=r"worker_python.*kind=path"):
        config.load()


def test_paths_in_a_file_are_relative_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "python").touch()
    write_toml(
        tmp_path,
        "model_roots = ['models']\ndata_dir = 'data'\n[worker_python]\ncpu = 'python'\n",
    )
    monkeypatch.chdir("/")
    settings = config.load()
    assert settings.model_roots == (tmp_path / "models",)
    assert settings.data_dir == tmp_path / "data"
    assert settings.worker_python == {"cpu": tmp_path / "python"}


def test_runtime_folder_and_models_go_with_the_data(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.token_path == tmp_path / "runtime" / "token"
    assert settings.model_roots[-1] == tmp_path / "models"


def test_demo_models_are_there_by_default() -> None:
    root = Settings().model_roots[0]
    assert (root / "emoji-xl" / "model_index.json").is_file()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_neither_tls_nor_token(host: str) -> None:
    assert Settings(host=host, auth=False).loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.test"])
def test_other_hosts_need_tls_and_token(host: str, tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.touch()
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        config.load(host=host)
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        config.load(host=host, tls_certificate=pem, tls_key=pem, auth=False)
    assert config.load(host=host, tls_certificate=pem, tls_key=pem).host == host


def test_half_of_tls_is_refused(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.touch()
    with pytest.raises(ConfigError, match="set both or neither"):
        config.load(tls_key=pem)
    with pytest.raises(ConfigError, match="tls_client_ca: needs"):
        config.load(tls_client_ca=pem)


def test_variable_that_lets_model_files_run_code_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ConfigError, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD: unset it"):
        config.load()


def test_client_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICEOPS_ADDRESS", "there:1")
    monkeypatch.setenv("DEVICEOPS_TOKEN", "very-private")
    client = config.load_client()
    assert client.address == "there:1"
    assert client.token.get_secret_value() == "very-private"
    assert "very-private" not in repr(client) + str(client)
    assert config.load_client(address="here:2").address == "here:2"
    assert "very-private" not in str(config.describe(config.load()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data_dir = '~nobody-there/x'", "data_dir.*~nobody-there is nobody's home"),
        ('data_dir = "a\\u0000b"', "data_dir.*no NUL"),
        (f"artifact_quota_bytes = {2**63}", "artifact_quota_bytes"),
        (f"allocation_quota_bytes = {2**63}", "allocation_quota_bytes"),
    ],
)
def test_values_that_nothing_can_work_with_are_refused_by_name(
    tmp_path: Path, text: str, says: str
) -> None:
    write_toml(tmp_path, text)
    with pytest.raises(ConfigError, match=says):
        config.load()


def test_a_settings_file_in_nobodys_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICEOPS_CONFIG", "~nobody-there/settings.toml")
    with pytest.raises(ConfigError, match="~nobody-there is nobody's home"):
        config.load()


def test_paths_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_toml(tmp_path, "data_dir = '~/data'\nruntime_dir = 'run'")
    settings = config.load()
    assert settings.data_dir == tmp_path / "home" / "data"
    assert settings.runtime_dir == tmp_path / "run"


@pytest.mark.parametrize("seconds", [300.0, 366 * 86_400.0])
async def test_the_longest_idle_time_is_one_that_grpc_can_count(seconds: float) -> None:
    options = listen._options(Settings(idle_connection_seconds=seconds))
    server = grpc.aio.server(options=options)
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(None)
