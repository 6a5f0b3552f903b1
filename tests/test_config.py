"""Settings: precedence, and one line for whatever an operator gets wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import typed_settings as ts

from ngos.config import FIELDS, Settings
from ngos.errors import SetupError
from ngos.loading import expected, load, load_settings, shown, variable


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*map(variable, FIELDS), "NGOS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ngos.toml"


def test_defaults() -> None:
    """Nothing set is what the class says."""
    assert Settings() == load_settings({}, None)


def test_precedence(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Flags go before variables, variables before the file; each value's source is known."""
    file.write_text('[ngos]\nport = 1\nhost = "file"\nlog_level = "debug"\n')
    monkeypatch.setenv("NGOS_PORT", "2")
    monkeypatch.setenv("NGOS_HOST", "env")
    loaded = load({"port": "3"}, file)
    assert (3, "env", "debug") == (loaded.settings.port, loaded.settings.host, loaded.settings.log_level)
    assert ["--port", "NGOS_HOST", f"{file}: log_level", "default"] == [
        loaded.sources[name] for name in ("port", "host", "log_level", "drain_s")
    ]


def test_file_named_by_variable(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """NGOS_CONFIG names the file where the flag does not."""
    file.write_text("[ngos]\nport = 7\n")
    monkeypatch.setenv("NGOS_CONFIG", str(file))
    assert 7 == load_settings({}, None).port


def test_types(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Lists split at commas or come as arrays; numbers, paths and secrets get their types."""
    monkeypatch.setenv("NGOS_DURABLE_TOPICS", "chat.*, room:?,")
    monkeypatch.setenv("NGOS_DATABASE_URL", "postgresql://u:hidden@h/d")
    monkeypatch.setenv("NGOS_DRAIN_S", "1.5")
    file.write_text('[ngos]\nallowed_origins = ["https://a", "https://b"]\ndata_dir = "~/x"\ndatabase_query_s = 2\n')
    settings = load_settings({}, file)
    assert ("chat.*", "room:?") == settings.durable_topics
    assert ("https://a", "https://b") == settings.allowed_origins
    assert (1.5, 2.0, Path.home() / "x") == (settings.drain_s, settings.database_query_s, settings.data_dir)
    assert type(settings.database_query_s) is float
    assert isinstance(settings.database_url, ts.SecretStr)
    assert "postgresql://u:hidden@h/d" == settings.database_url
    assert "hidden" not in repr(settings) + shown(settings.database_url)


def test_empty_variables_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service file's `NGOS_DATABASE_URL=` is no database URL, and an empty list is one."""
    monkeypatch.setenv("NGOS_DATABASE_URL", "")
    monkeypatch.setenv("NGOS_DURABLE_TOPICS", "")
    settings = load_settings({}, None)
    assert (None, ()) == (settings.database_url, settings.durable_topics)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", "http", "NGOS_PORT: must be an integer from 0 to 65535, not 'http'"),
        ("port", "65536", "NGOS_PORT: must be an integer from 0 to 65535, not '65536'"),
        ("port", "", "NGOS_PORT: must be an integer from 0 to 65535, not ''"),
        ("log_level", "loud", "NGOS_LOG_LEVEL: must be one of debug, info, warning, error, not 'loud'"),
        ("drain_s", "nan", "NGOS_DRAIN_S: must be a number, at least 0, not 'nan'"),
        ("data_dir", "~nobody-here/x", "NGOS_DATA_DIR: must be a path, not '~nobody-here/x'"),
        ("retention_age_s", "1e15", "NGOS_RETENTION_AGE_S: must be a number from 1 to 1e+09, not '1e15'"),
        ("retention_replies_s", "1e15", "NGOS_RETENTION_REPLIES_S: must be a number from 86400 to 1e+09, not '1e15'"),
        ("database_connect_s", "1e15", "NGOS_DATABASE_CONNECT_S: must be a number from 0.001 to 86400, not '1e15'"),
        ("database_query_s", "1e15", "NGOS_DATABASE_QUERY_S: must be a number from 0.001 to 86400, not '1e15'"),
        ("mailbox_age_s", "1e15", "NGOS_MAILBOX_AGE_S: must be a number from 0.001 to 86400, not '1e15'"),
        ("mailbox_bytes", "1", "NGOS_MAILBOX_BYTES: must be an integer, at least 262144, not '1'"),
    ],
)
def test_wrong_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    """A wrong value is one line that names the variable and what is right; exit code 2."""
    monkeypatch.setenv(variable(name), value)
    with pytest.raises(SetupError) as caught:
        load_settings({}, None)
    assert (message, 2) == (str(caught.value), caught.value.exit_code)


def test_a_flag_mends_a_wrong_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is overridden is not complained about."""
    monkeypatch.setenv("NGOS_PORT", "http")
    assert 80 == load_settings({"port": "80"}, None).port


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[ngos]\nprot = 1\n", "prot: no such setting; did you mean port?"),
        ("[ngos]\nport = true\n", "port: must be an integer from 0 to 65535, not True"),
        ("[ngos]\nport = 1.5\n", "port: must be an integer from 0 to 65535, not 1.5"),
        ("[ngos]\nhost = 5\n", "host: must be text, not 5"),
        ("[ngos]\ndurable_topics = [1]\n", "durable_topics: must be a list of texts, separated by commas, not [1]"),
        ("[ngos]\ndatabase_url = 5\n", "database_url: must be text"),
        ("port = 1\n", "port: unknown; settings go into the table [ngos]"),
        ("ngos = 1\n", "ngos: must be a table, [ngos]"),
        ("[ngos\n", "not TOML: "),
    ],
)
def test_wrong_files(file: Path, content: str, message: str) -> None:
    """A wrong key, value or syntax in the file is one line that names file and key; exit code 2."""
    file.write_text(content)
    with pytest.raises(SetupError) as caught:
        load_settings({}, file)
    assert 2 == caught.value.exit_code
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_missing_file(file: Path) -> None:
    """A file that is asked for and not there is an error, not a default."""
    with pytest.raises(SetupError, match="No such file"):
        load_settings({}, file)


def test_secret_is_not_told(file: Path) -> None:
    """A wrong secret does not appear in the message."""
    file.write_text('[ngos]\ndatabase_url = ["hunter2"]\n')
    with pytest.raises(SetupError) as caught:
        load_settings({}, file)
    assert "hunter2" not in str(caught.value)


def test_every_setting_says_what_it_takes() -> None:
    """Each field has a help text and words for what is right."""
    for name, attribute in FIELDS.items():
        assert attribute.metadata["help"]
        assert expected(name)
