"""The configuration: every key, where it comes from, and what is said when it is wrong."""

import filecmp
import os
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

import sync_server
from sync_core.events import Delivery
from sync_server.access_sections import JWTSection, RoleSection, WebhookSection
from sync_server.settings import ConfigError, Settings, load_settings

PACKAGED = Path(sync_server.__file__).parent / "config.example.toml"
REPOSITORY = Path(__file__).parents[2]
SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and no settings in the environment."""
    for name in list(os.environ):
        if name.startswith("SYNC_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str = "", **overrides: dict[str, Any]) -> Settings:
    file = Path("given.toml")
    file.write_text(text, encoding="utf-8")
    return load_settings(file, **overrides)


def faults(text: str = "", **overrides: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, **overrides)
    first, *lines = str(caught.value).splitlines()
    assert first == "The configuration (given.toml) cannot be used:"
    return [line.removeprefix("  - ") for line in lines]


# -- the example ----------------------------------------------------------------------------------------


def keys(model: BaseModel, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of *model* that has a default which TOML can write."""
    for path, value in all_keys(model, prefix):
        if value is not None and value != {} and path != ("access", "jwt"):
            yield path, value


def all_keys(model: BaseModel, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from all_keys(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def as_toml(value: Any) -> Any:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return str(value)
        case timedelta():
            if value.days:
                return f"{value.days}d"
            if value.seconds % 60:
                return f"{value.seconds}s"
            return f"{value.seconds // 3600}h" if value.seconds >= 3600 else f"{value.seconds // 60}m"
        case tuple():
            return list(value)
    return value


def flat(table: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def test_the_example_holds_every_key_with_its_default() -> None:
    example = dict(flat(tomllib.loads(PACKAGED.read_text(encoding="utf-8"))))
    assert example == {path: as_toml(value) for path, value in keys(load_settings())}


def test_the_example_says_the_same_as_no_configuration() -> None:
    assert load_settings(PACKAGED).model_dump() == load_settings().model_dump()


def test_the_example_shows_in_a_comment_what_has_no_default() -> None:
    text = PACKAGED.read_text(encoding="utf-8")
    shown = dict(keys(load_settings()))
    for path, _ in all_keys(load_settings()):
        if path not in shown:
            assert re.search(rf"^# (\[+{re.escape('.'.join(path))}\b|{path[-1]} =)", text, re.MULTILINE), path
    for section in (JWTSection, RoleSection, WebhookSection):
        for name in section.model_fields:
            assert name == "secret" or re.search(rf"^# {name} =", text, re.MULTILINE), name


def test_the_commented_examples_can_be_used_as_they_are(directory: Path) -> None:
    for file in ("provider.pem", "server.pem", "server.key"):
        (directory / file).touch()
    text = re.sub(r"^# (?=\[|\w+ = )", "", PACKAGED.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = re.sub(r"^(tls_\w+ = .*)\n", "", text, flags=re.MULTILINE)  # no certificate to show here
    text = text.replace('"..."', f'"{SECRET}"').replace('mode = "open"', 'mode = "required"')
    settings = load(text)
    assert len(settings.access.jwt) == 2
    assert settings.webhooks["cms"].keys == {"orderID": "/doc/orderID"}
    assert "run_bays" in settings.access.roles["washer"].permissions


def test_the_example_explains_every_key_on_its_line() -> None:
    for line in PACKAGED.read_text(encoding="utf-8").splitlines():
        if re.match(r"\w+ =", line):
            assert re.search(r"#  ?[A-Z\"].+\.$", line), line


def test_the_example_at_the_top_is_the_packaged_one() -> None:
    assert filecmp.cmp(PACKAGED, REPOSITORY / "config.example.toml", shallow=False)


def test_the_defaults_are_those_of_the_protocol() -> None:
    settings = load_settings()
    assert (settings.server.host, settings.server.port, settings.log.store) == ("127.0.0.1", 8000, "sqlite")
    assert (settings.feed.heartbeat_s, settings.feed.max_age_s, settings.feed.slow_close_s) == (15, 600, 30)


# -- sources --------------------------------------------------------------------------------------------


def test_command_line_beats_environment_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_SERVER__PORT", "2")
    monkeypatch.setenv("SYNC_SERVER__DRAIN_S", "2")
    file = '[server]\nhost = "127.0.0.9"\nport = 1\ndrain_s = 1'
    settings = load(file, server={"drain_s": 3})
    assert settings.server.model_dump() == {
        "host": "127.0.0.9",
        "port": 2,
        "drain_s": 3.0,
        "workers": 1,
        "allow_open_network": False,
        "tls_certificate": None,
        "tls_key": None,
    }


def test_a_nested_section_is_overridden_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_LOG__MONGODB__DATABASE", "other")
    settings = load('[log]\nstore = "mongodb"\n[log.mongodb]\ndriver = "motor"', log={"sqlite": {"path": "x.db"}})
    assert settings.log.store == "mongodb"
    assert (settings.log.mongodb.driver, settings.log.mongodb.database) == ("motor", "other")
    assert settings.log.sqlite.path == Path("x.db")


def test_one_key_of_a_section_leaves_the_others_at_their_defaults() -> None:
    default = load_settings()
    for path, value in keys(default):
        *tables, key = path
        table = f"[{'.'.join(tables)}]"
        written = str(as_toml(value)).lower() if isinstance(value, bool | int | float) else repr(as_toml(value))
        assert load(f"{table}\n{key} = {written}").model_dump() == default.model_dump()


def test_sync_toml_of_the_working_directory_is_read() -> None:
    Path("sync.toml").write_text("[server]\nport = 7")
    assert load_settings().server.port == 7


def test_a_named_file_is_read_instead() -> None:
    Path("sync.toml").write_text("[server]\nport = 7")
    assert load("[server]\nhost = '127.0.0.2'").server.port == 8000


def test_a_named_file_has_to_be_there() -> None:
    with pytest.raises(ConfigError, match=r"no configuration file nowhere\.toml"):
        load_settings(Path("nowhere.toml"))


@pytest.mark.parametrize(("text", "duration"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604800)])
def test_durations_carry_their_unit(text: str, duration: int) -> None:
    assert load(f'[retention]\nmax_age = "{text}"').retention.max_age == timedelta(seconds=duration)


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_EVENTS__CUSTOM", '["a", {"name": "b", "delivery": "ephemeral"}]')
    assert [event.name for event in load_settings().events.custom] == ["a", "b"]


# -- faults ---------------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once_each_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_SERVER__BAR", "1")
    monkeypatch.setenv("SYNC_NOSUCH__THING", "1")
    monkeypatch.setenv("SYNC_FEED__HEARTBEAT_S", "soon")
    told = faults(
        """
        [server]
        host = "0.0.0.0"
        port = 70000
        workers = 2
        typo = 1
        [log.sqlite]
        path = 3
        [retention]
        max_age = 7
        [nothing]
        a = 1
        [events]
        custom = ["a b", 5, { nam = "x" }]
        """
    )
    assert [fault.partition(":")[0] for fault in told] == [
        "environment variable SYNC_NOSUCH__THING",
        "[server] port",
        "[server] typo",
        "[server] bar",
        "[log.sqlite] path",
        "[retention] max_age",
        "[feed] heartbeat_s",
        "[events] custom[0].name",
        "[events] custom[1]",
        "[events] custom[2].name",
        "[events] custom[2].nam",
        "[nothing]",
        "[server] workers",
        "[server] host",
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("server = 5", "[server]"),
        ("[server]\nport = true", "[server] port"),
        ("[server]\nport = -1", "[server] port"),
        ("[server]\nport = 1.5", "[server] port"),
        ("[server]\nhost = 5", "[server] host"),
        ("[server]\nworkers = 0", "[server] workers"),
        ("[server]\ndrain_s = nan", "[server] drain_s"),
        ("[server]\ndrain_s = inf", "[server] drain_s"),
        ("[server]\nallow_open_network = 7", "[server] allow_open_network"),
        ('[log]\nstore = "redis"', "[log] store"),
        ('[log.mongodb]\ndatabase = "a/b"', "[log.mongodb] database"),
        ('[log.mongodb]\ndriver = "mongoengine"', "[log.mongodb] driver"),
        ('[retention]\nmax_age = "7"', "[retention] max_age"),
        ('[retention]\nmax_age = "0s"', "[retention] max_age"),
        ('[retention]\nmax_age = "-1d"', "[retention] max_age"),
        ('[retention]\nmax_age = "999999999999d"', "[retention] max_age"),
        ("[retention]\nmax_events = 0", "[retention] max_events"),
        ("[feed]\nheartbeat_s = 0", "[feed] heartbeat_s"),
        ("[feed]\nwindow_bytes = 1", "[feed] window_bytes"),
        ('[events]\ncustom = "x"', "[events] custom"),
        ('[events]\ncustom = ["x", "x"]', "[events] custom[1].name"),
        ('[events]\ncustom = ["stage_change"]', "[events] custom[0].name"),
        ('[events]\ncustom = [{ name = "connected" }]', "[events] custom[0].name"),
        ('[log.mongodb]\nuri = "http://foo"', "[log.mongodb] uri"),
        ('[events]\ncustom = [{ name = "x", delivery = "latest" }]', "[events] custom[0]"),
        ('[events]\ncustom = [{ name = "x", entity = "deviceID" }]', "[events] custom[0]"),
        ('[events]\ncustom = [{ name = "x", delivery = "latest", entity = "deviceId" }]', "[events] custom[0]"),
        ('[events]\ncustom = [{ name = "x", delivery = "once" }]', "[events] custom[0].delivery"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(text: str, place: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith(f"{place}: ")


def test_toml_that_does_not_parse_is_told_with_file_and_line() -> None:
    (fault,) = faults("[server]\nport = 1\nhost = \n")
    assert fault.startswith("given.toml: not TOML: ")
    assert "line 3" in fault


def test_a_file_that_is_no_text_is_told() -> None:
    Path("given.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"given\.toml: not UTF-8"):
        load_settings(Path("given.toml"))


def test_every_clash_of_names_is_told_together_with_malformed_entries() -> None:
    told = faults('[events]\ncustom = ["heartbeat", "stage_change", "a", "a b", "a", 5, { name = "a", x = 1 }]')
    assert told == [
        "[events] custom[3].name: has characters or a length that are not possible here",
        "[events] custom[5]: has to be a table of settings",
        "[events] custom[6].x: there is no such setting",
        "[events] custom[0].name: 'heartbeat' is a built-in event type",
        "[events] custom[1].name: 'stage_change' is a built-in event type",
        "[events] custom[4].name: 'a' is there twice",
        "[events] custom[6].name: 'a' is there twice",
    ]


@pytest.mark.parametrize("name", ["SYNC_SERVER", "SYNC_LOG__SQLITE", "SYNC_EVENTS__CUSTOM", "sync_events__custom"])
def test_an_environment_variable_that_is_no_json_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "hunter2")
    told = faults("[feed]\nheartbeat_s = 0")
    assert [fault.partition(": ")[0] for fault in told] == [f"environment variable {name}", "[feed] heartbeat_s"]
    assert "has to be JSON" in told[0]
    assert "hunter2" not in told[0]


def test_an_environment_variable_of_a_section_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_SERVER", '{"port": 5}')
    monkeypatch.setenv("SYNC_SERVER__WORKERS", "1")
    assert load("[server]\nhost = '127.0.0.2'").server.port == 5


@pytest.mark.parametrize("uri", ["mongodb://db.example/", "mongodb+srv://db.example/?replicaSet=rs0"])
def test_a_mongodb_uri_has_one_of_its_schemes(uri: str) -> None:
    assert load(f'[log.mongodb]\nuri = "{uri}"').log.mongodb.uri.get_secret_value() == uri


def test_sqlite_has_one_process_and_the_reason_is_given() -> None:
    (fault,) = faults("[server]\nworkers = 2")
    assert fault.startswith("[server] workers: a SQLite log has one process, since nothing tells another one")
    assert load('[server]\nworkers = 2\n[log]\nstore = "mongodb"').server.workers == 2


def test_sqlite_with_workers_from_the_environment_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_SERVER__WORKERS", "4")
    with pytest.raises(ConfigError, match="SQLite log has one process"):
        load_settings()


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "shop.example", "", "127.0.0.1.example.com", "1270.0.0.1"]
)
def test_an_open_address_needs_the_named_option(host: str) -> None:
    (fault,) = faults(f'[server]\nhost = "{host}"')
    assert "--allow-open-network" in fault
    assert load(f'[server]\nhost = "{host}"\nallow_open_network = true').server.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_address_needs_no_option(host: str) -> None:
    assert load(f'[server]\nhost = "{host}"').server.host == host


def test_a_password_shows_neither_in_repr_nor_in_faults() -> None:
    secret = "mongodb://user:hunter2@db.example/"
    settings = load(f'[log.mongodb]\nuri = "{secret}"')
    assert "hunter2" not in repr(settings) + str(settings)
    assert settings.log.mongodb.uri.get_secret_value() == secret
    for text in (
        f'[log.mongodb]\nuri = ["{secret}"]',
        f'[log]\nmongodb = "{secret}"',
        f'[log.mongodb]\nurl = "{secret}"',
        f'[log.mongodb]\nuri = "x{secret}"',
    ):
        assert "hunter2" not in "".join(faults(text))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().server.port = 1  # type: ignore[misc]


# -- custom events --------------------------------------------------------------------------------------


def test_custom_events_are_names_or_tables() -> None:
    registry = load(
        """
        [events]
        custom = [
          "note",
          { name = "level", delivery = "latest", entity = "deviceID" },
          { name = "blip", delivery = "ephemeral" },
        ]
        """
    ).events.registry()
    found = {name: registry.get(name) for name in ("note", "level", "blip", "stage_change")}
    assert {name: kind and kind.delivery for name, kind in found.items()} == {
        "note": Delivery.EVERY,
        "level": Delivery.LATEST,
        "blip": Delivery.EPHEMERAL,
        "stage_change": Delivery.EVERY,
    }
    assert registry.latest["level"] == "deviceID="


def test_the_demos_and_the_seeds_configurations_are_valid() -> None:
    for file in (PACKAGED.with_name("demo.toml"), REPOSITORY / "tests" / "seeds" / "seeds.toml"):
        assert load_settings(file).events.custom == ()
