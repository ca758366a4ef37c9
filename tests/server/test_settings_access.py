"""The configuration of access: what is unsafe is refused, and it is said why."""

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from sync_server.serve import settings_to_line
from sync_server.settings import Settings, load_settings
from tests.server.test_settings import SECRET, faults, load
from tests.server.test_settings import directory as directory  # an empty working directory for each test

REQUIRED = f'[access]\nmode = "required"\nsecret = "{SECRET}"\n'
WEBHOOK = f'[webhooks.cms]\nevent_type = "status_update"\nsecret = "{SECRET}"\n'


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ('[access]\nmode = "required"', "[access]", "needs a secret"),
        ('[access]\nmode = "maybe"', "[access] mode", "'open' or 'required'"),
        ('[access]\nmode = "required"\nsecret = "short"', "[access] secret", "at least 32 random bytes"),
        (f'[access]\nmode = "required"\nsecret = "{"a" * 40}"', "[access] secret", "at least 32 random bytes"),
        (f'[access]\nsecret = "{SECRET}"', "[access]", "lets everybody in"),
        ('[access.roles.washer]\npermissions = ["run_bays"]', "[access]", "lets everybody in"),
        (REQUIRED + 'session = "soon"', "[access] session", "a duration"),
        (REQUIRED + 'tenants = ["Shop_1"]', "[access] tenants", "is no tenant"),
        (REQUIRED + 'tenants = ["_access"]', "[access] tenants", "is no tenant"),
        (REQUIRED + 'cors_origins = ["*"]', "[access] cors_origins", "there is no *"),
        (REQUIRED + 'cors_origins = ["null"]', "[access] cors_origins", "is no origin"),
        (REQUIRED + 'cors_origins = ["https://*.example"]', "[access] cors_origins", "is no origin"),
        (REQUIRED + 'cors_origins = ["https://shop.example/"]', "[access] cors_origins", "is no origin"),
        (REQUIRED + 'trusted_proxies = ["*"]', "[access] trusted_proxies", "no address or network"),
        (REQUIRED + 'trusted_proxies = ["10.0.0.1/8"]', "[access] trusted_proxies", "host bits set"),
        (REQUIRED + '[access.roles.x]\npermissions = ["fly"]', "[access.roles.x] permissions", "no permission 'fly'"),
        (REQUIRED + "[[access.jwt]]", "[access] jwt[0]", "exactly one of"),
        (REQUIRED + '[[access.jwt]]\nsecret = "weak"', "[access] jwt[0].secret", "too weak"),
        (REQUIRED + f'[[access.jwt]]\nalgorithm = "RS256"\nsecret = "{SECRET}"', "[access] jwt[0]", "for HS256"),
        (
            REQUIRED + '[[access.jwt]]\njwks_url = "http://id.example/keys"\naudience = "a"',
            "[access] jwt[0].jwks_url",
            "begins with https",
        ),
        (
            REQUIRED + '[[access.jwt]]\njwks_url = "https://id.example/keys"',
            "[access] jwt[0]",
            "needs an audience",
        ),
        (
            REQUIRED + '[[access.jwt]]\nalgorithm = "none"\nsecret = "' + SECRET + '"',
            "[access] jwt[0].algorithm",
            "'HS256', 'RS256' or 'ES256'",
        ),
        (
            REQUIRED + '[[access.jwt]]\nalgorithm = "RS256"\npublic_key_file = "nowhere.pem"\naudience = "a"',
            "[access] jwt[0].public_key_file",
            "No such file",
        ),
        ('[server]\ntls_certificate = "nowhere.pem"', "[server] tls_certificate", "No such file"),
        ('[server]\ntls_certificate = "given.toml"', "[server]", "go together"),
        ('[server]\ntls_certificate = "given.toml"\ntls_key = "given.toml"', "[server]", "cannot be used together"),
        ('[limits]\nreads = "many"', "[limits] reads", "a rate is a number"),
        ('[limits]\nlogins = "0/minute"', "[limits] logins", "a rate is a number"),
        ("[limits]\nstreams = 0", "[limits] streams", "greater than or equal to 1"),
        ('[webhooks.cms]\nevent_type = "status_update"', "[webhooks.cms] secret", "is missing"),
        (WEBHOOK + 'keys = { shoe = "/id" }', "[webhooks.cms] keys", "no entity key"),
        (WEBHOOK + 'data = { status = "doc.status" }', "[webhooks.cms] data", "begins with a slash"),
        (WEBHOOK + 'key = "id"', "[webhooks.cms] key", "begins with a slash"),
        (WEBHOOK.replace("status_update", "order_created"), "[webhooks.cms] event_type", "cannot be published"),
        (WEBHOOK.replace("status_update", "mine"), "[webhooks.cms] event_type", "[events] custom"),
        (WEBHOOK.replace("webhooks.cms", 'webhooks."a b"'), "[webhooks.a b] [key]", "characters"),
    ],
)
def test_what_is_unsafe_or_wrong_is_refused_with_its_place(text: str, place: str, why: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith(f"{place}: ")
    assert why in fault


def test_no_fault_shows_a_secret() -> None:
    for text in (
        '[access]\nmode = "required"\nsecret = "hunter2"',
        REQUIRED + '[[access.jwt]]\nsecret = "hunter2"',
        REQUIRED + '[[access.jwt]]\nsecret = "hunter2hunter2hunter2hunter2hunter2"\njwks_url = "https://a.b"',
        WEBHOOK.replace(SECRET, "hunter2"),
    ):
        assert "hunter2" not in "".join(faults(text))
    assert SECRET not in repr(load(REQUIRED + WEBHOOK))


def test_with_access_control_any_address_is_allowed() -> None:
    assert load(REQUIRED + '[server]\nhost = "0.0.0.0"').server.host == "0.0.0.0"


def test_a_custom_type_can_come_by_webhook() -> None:
    assert load(WEBHOOK.replace("status_update", "mine") + '[events]\ncustom = ["mine"]').webhooks["cms"]


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_ACCESS__SECRET", SECRET)
    monkeypatch.setenv("SYNC_WEBHOOKS__CMS__SECRET", SECRET)
    settings = load('[access]\nmode = "required"\n[webhooks.cms]\nevent_type = "status_update"')
    assert settings.access.secret is not None
    assert settings.webhooks["cms"].secret.get_secret_value() == SECRET


@pytest.mark.parametrize("name", ["SYNC_ACCESS", "SYNC_ACCESS__ROLES", "SYNC_WEBHOOKS", "SYNC_ACCESS__JWT"])
def test_a_garbled_variable_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hunter2")
    (fault,) = faults()
    assert fault.startswith(f"environment variable {name}: its value has to be JSON")
    assert "hunter2" not in fault


@pytest.mark.parametrize("name", ["SYNC_WEBHOOKS__CMS", "SYNC_ACCESS__TENANTS", "SYNC_ACCESS__ROLES__X"])
def test_a_garbled_variable_below_a_table_is_no_traceback(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hunter2")
    (fault,) = faults()
    assert "hunter2" not in fault
    assert "has to be" in fault


def test_the_clients_variables_are_not_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_CLIENT_TOKEN", "osk_x")
    load_settings()


def test_a_certificate_and_its_key_are_taken(directory: Path) -> None:
    make_certificate(directory)
    settings = load('[server]\ntls_certificate = "server.pem"\ntls_key = "server.key"')
    assert settings.server.tls_certificate == Path("server.pem")


def make_certificate(directory: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "server.key",
         "-out", "server.pem"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip


def test_a_worker_gets_the_settings_as_they_are(directory: Path) -> None:
    make_certificate(directory)
    text = (
        REQUIRED
        + WEBHOOK
        + f"""
        [[access.jwt]]
        secret = "{SECRET}"
        [access.roles.washer]
        permissions = ["run_bays"]
        [server]
        tls_certificate = "server.pem"
        tls_key = "server.key"
        [retention]
        max_age = "90s"
        [events]
        custom = ["note", {{ name = "level", delivery = "latest", entity = "deviceID" }}]
        """
    )
    settings = load(text.replace('secret = "', 'session = "90m"\nsecret = "', 1))
    line = settings_to_line(settings)
    again = Settings.model_validate_json(line)
    assert again.model_dump() == settings.model_dump()
    assert again.access.session == timedelta(minutes=90)
    assert json.loads(line)["access"]["secret"] == SECRET
