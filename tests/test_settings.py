"""Settings: the file, then the environment; whatever is wrong is named by its key."""

import json
from pathlib import Path

import msgspec
import pytest

from solaris_meter.errors import SettingsError
from solaris_meter.settings import DEFAULT_ROUTES, Settings, find_config, load_settings, without_effect


@pytest.fixture
def load(tmp_path):
    def loaded(text, **environ):
        file = tmp_path / "solaris.toml"
        file.write_text(text, "utf-8")
        return load_settings(file, environ)

    return loaded


def refusal(call, *values, **rest):
    with pytest.raises(SettingsError) as caught:
        call(*values, **rest)
    return str(caught.value)


def test_everything_has_a_default():
    settings = load_settings(None, {})
    assert settings == Settings()
    assert settings.ledger.database == "sqlite:///solaris.db"
    assert settings.ledger.on_error == "deny"
    assert settings.ledger.journal == ""
    assert settings.identity.user_header == "X-Solaris-User"
    assert settings.identity.key == ""
    assert settings.identity.body_fallback is True
    assert settings.accounts.auto_create is True
    assert settings.accounts.default_plan == "basico"
    assert settings.accounts.timezone == "America/Sao_Paulo"
    assert settings.admission.slice == 1024
    assert settings.admission.overdraft == "soft"
    assert settings.admission.admission_wait == 30
    assert settings.alerts.thresholds == (80, 95)
    assert settings.denial.mode == "http_429"
    assert settings.locale.language == "pt-BR"
    assert settings.policy.unknown_hosts == "pass"
    assert settings.policy.unknown_endpoints == "meter"
    assert settings.all_routes == DEFAULT_ROUTES


def test_an_empty_file_means_the_defaults(load):
    assert load("") == Settings()


def test_the_file_changes_what_it_names_and_nothing_else(load):
    settings = load('[admission]\noverdraft = "strict"\nadmission_wait = 2.5\n[alerts]\nthresholds = [50]\n')
    assert settings.admission.overdraft == "strict"
    assert settings.admission.admission_wait == 2.5
    assert settings.admission.slice == 1024
    assert settings.alerts.thresholds == (50,)


def test_every_default_written_to_a_file_reads_back(load):
    # A string, a number, a boolean and a list of them are written in TOML as in JSON.
    text = "".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for table, values in msgspec.to_builtins(Settings()).items()
    )
    assert load(text) == Settings()


def test_the_environment_overrides_the_file(load):
    settings = load(
        '[ledger]\ndatabase = "sqlite:///file.db"\non_error = "allow"\n[alerts]\nthresholds = [50]\nin_chat = true\n',
        SOLARIS_LEDGER_DATABASE="sqlite:///environment.db",
        SOLARIS_ADMISSION_SLICE="512",
        SOLARIS_ADMISSION_ADMISSION_WAIT="0.5",
        SOLARIS_ALERTS_THRESHOLDS="60, 70,",
        SOLARIS_ALERTS_IN_CHAT="false",
        SOLARIS_POLICY_HOSTS="one.example,two.example",
        SOLARIS_ROUTES_LOCAL="http://127.0.0.1:8000/v1",
        PATH="/usr/bin",
    )
    assert settings.ledger.database == "sqlite:///environment.db"
    assert settings.ledger.on_error == "allow"
    assert settings.admission.slice == 512
    assert settings.admission.admission_wait == 0.5
    assert settings.alerts.thresholds == (60, 70)
    assert settings.alerts.in_chat is False
    assert settings.policy.hosts == ("one.example", "two.example")
    assert settings.routes == {"local": "http://127.0.0.1:8000/v1"}


def test_an_empty_variable_empties_a_list():
    assert load_settings(None, {"SOLARIS_ALERTS_THRESHOLDS": ""}).alerts.thresholds == ()


def test_the_variables_that_are_no_settings_are_left_alone():
    # The path of the settings file, and what Kubernetes sets for a service named solaris.
    others = {"SOLARIS_SERVICE_HOST": "10.0.0.1", "SOLARIS_PORT_8080_TCP": "tcp://10.0.0.1:8080"}
    assert load_settings(None, {"SOLARIS_CONFIG": "x.toml"} | others) == Settings()


@pytest.mark.parametrize("name", ["SOLARIS_LEDGR_DATABASE", "SOLARIS_LEDGER_DATABSE", "SOLARIS_LEDGER", "SOLARIS_"])
def test_an_unknown_variable_is_named(name):
    assert name in refusal(load_settings, None, {name: "1"})


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("SOLARIS_ADMISSION_SLICE", "many", "admission.slice"),
        ("SOLARIS_ADMISSION_SLICE", "0", "admission.slice"),
        ("SOLARIS_ADMISSION_OVERDRAFT", "hard", "admission.overdraft"),
        ("SOLARIS_ALERTS_THRESHOLDS", "80,101", "alerts.thresholds"),
        ("SOLARIS_IDENTITY_BODY_FALLBACK", "perhaps", "identity.body_fallback"),
        ("SOLARIS_IDENTITY_USER_HEADER", "X User", "identity.user_header"),
        ("SOLARIS_ACCOUNTS_TIMEZONE", "Mars/Olympus", "accounts.timezone"),
        ("SOLARIS_ROUTES_LOCAL", "127.0.0.1", "routes.local"),
    ],
)
def test_a_wrong_value_in_the_environment_names_its_key(name, text, key):
    assert key in refusal(load_settings, None, {name: text})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[ledgr]\n", "ledgr"),
        ("[ledger]\ndatabse = 'x'\n", "ledger.databse"),
        ("[admission]\nslice = '512'\n", "admission.slice"),
        ("[admission]\nslice = 0\n", "admission.slice"),
        ("[admission]\nadmission_wait = -1\n", "admission.admission_wait"),
        ("[admission]\noverdraft = 'hard'\n", "admission.overdraft"),
        ("[alerts]\nthresholds = 80\n", "alerts.thresholds"),
        ("[alerts]\nthresholds = [80, 0]\n", "alerts.thresholds"),
        ("[alerts]\nin_chat = 'yes'\n", "alerts.in_chat"),
        ("[identity]\nuser_header = 'X User'\n", "identity.user_header"),
        ("[identity]\nanonymous = 'allow'\n", "identity.anonymous"),
        ("[identity]\nanonymous = 'account:'\n", "identity.anonymous"),
        ("[accounts]\ntimezone = 'Mars/Olympus'\n", "accounts.timezone"),
        ("[accounts]\ntimezone = ''\n", "accounts.timezone"),
        ("[accounts]\ntimezone = '../UTC'\n", "accounts.timezone"),
        ("[accounts]\ntimezone = 'America'\n", "accounts.timezone"),
        ("[locale]\nlanguage = 'fr'\n", "locale.language"),
        ("[denial]\nmode = 'http_500'\n", "denial.mode"),
        ("[policy]\nunknown_hosts = 'block'\n", "policy.unknown_hosts"),
        ("[routes]\nlocal = 5\n", "routes.local"),
        ("[routes]\nlocal = ''\n", "routes.local"),
        ("[routes]\nlocal = 'api.example.com'\n", "routes.local"),
        ("[routes]\nlocal = 'ftp://api.example.com'\n", "routes.local"),
        ("[routes]\nlocal = 'https://'\n", "routes.local"),
        ("[routes]\nlocal = 'https://api.example.com?key=1'\n", "routes.local"),
        ("[routes]\nlocal = 'https://[api.example.com'\n", "routes.local"),
        ("[routes]\n'lo/cal' = 'https://api.example.com'\n", "lo/cal"),
        ("ledger = 5\n", "ledger"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_file(load, tmp_path, text, key):
    message = refusal(load, text)
    assert key in message
    assert str(tmp_path / "solaris.toml") in message


def test_an_unknown_key_is_told_with_the_known_ones(load):
    assert "database, on_error" in refusal(load, "[ledger]\ndatabse = 'x'\n")


def test_a_route_overrides_a_default_and_adds_to_the_others(load):
    routes = load("[routes]\nopenai = 'http://127.0.0.1:9000'\nmine = 'https://llm.example.com/v1'\n").all_routes
    assert routes == DEFAULT_ROUTES | {"openai": "http://127.0.0.1:9000", "mine": "https://llm.example.com/v1"}


def test_an_anonymous_caller_has_an_account_only_where_one_is_named(load):
    assert load("").identity.anonymous_user is None
    assert load("[identity]\nanonymous = 'account:guest'\n").identity.anonymous_user == "guest"


def test_a_file_that_is_not_there_is_named(tmp_path):
    missing = tmp_path / "missing.toml"
    assert str(missing) in refusal(load_settings, missing, {})


def test_a_directory_is_not_a_settings_file(tmp_path):
    assert str(tmp_path) in refusal(load_settings, tmp_path, {})


@pytest.mark.parametrize("content", [b"[ledger\n", b"key = \n", b"a = '\xff'\n"])
def test_invalid_toml_is_told_with_the_file(tmp_path, content):
    file = tmp_path / "solaris.toml"
    file.write_bytes(content)
    message = refusal(load_settings, file, {})
    assert str(file) in message
    assert "not valid TOML" in message


def test_the_file_named_comes_before_the_variable_and_the_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(None, {}) is None
    Path("solaris.toml").touch()
    assert find_config(None, {}) == Path("solaris.toml")
    assert find_config(None, {"SOLARIS_CONFIG": "other.toml"}) == Path("other.toml")
    assert find_config("named.toml", {"SOLARIS_CONFIG": "other.toml"}) == Path("named.toml")


def test_keys_without_effect_are_reported_only_when_they_were_changed(load):
    assert without_effect(load("")) == []
    changed = load("[web]\nsecret = 'x'\n[chat]\ncommands = ['/tokens']\n[alerts]\nthresholds = [50]\n")
    assert without_effect(changed) == ["web"]


def test_a_channel_that_is_no_url_is_refused_and_its_secrets_are_not_told(load):
    with pytest.raises(SettingsError, match=r"alerts\.channels: slack://\*\*\*\* holds a space") as refused:
        load('[alerts]\nchannels = ["mailto://a:b@example.com", "slack://s3same/ s3same"]\n')
    assert "s3same" not in str(refused.value)


def test_a_channel_that_is_written_twice_is_one(load):
    url = "mailto://a:b@example.com?to={email}"
    settings = load(f'[alerts]\nchannels = ["{url}", "{url}", "slack://a/b/c"]\n')
    assert [channel.name for channel in settings.alerts.parsed_channels] == [
        "mailto://example.com?to={email}",
        "slack://****",
    ]


def test_a_secret_may_stand_in_a_file(tmp_path):
    secret = tmp_path / "key"
    secret.write_text("0123456789abcdef\n")
    named = {"SOLARIS_IDENTITY_KEY_FILE": str(secret)}
    assert load_settings(None, named).identity.key == "0123456789abcdef"
    assert load_settings(None, {"SOLARIS_IDENTITY_KEY": ""} | named).identity.key == "0123456789abcdef"
    assert load_settings(None, {"SOLARIS_IDENTITY_KEY": "x", "SOLARIS_IDENTITY_KEY_FILE": ""}).identity.key == "x"
    with pytest.raises(SettingsError, match="SOLARIS_IDENTITY_KEY and SOLARIS_IDENTITY_KEY_FILE are both set"):
        load_settings(None, {"SOLARIS_IDENTITY_KEY": "x"} | named)
    with pytest.raises(SettingsError, match="SOLARIS_IDENTITY_KEY_FILE: '/nowhere': No such file"):
        load_settings(None, {"SOLARIS_IDENTITY_KEY_FILE": "/nowhere"})
    secret.write_text("mailto://a:b@example.com?to=x@example.com,y@example.com\n\nslack://A/B/C/#d\n")
    listed = load_settings(None, {"SOLARIS_ALERTS_CHANNELS_FILE": str(secret)}).alerts.channels
    assert listed == ("mailto://a:b@example.com?to=x@example.com,y@example.com", "slack://A/B/C/#d")
    with pytest.raises(SettingsError, match="SOLARIS_IDENTITY_KEX_FILE is not a setting"):
        load_settings(None, {"SOLARIS_IDENTITY_KEX_FILE": str(secret)})


@pytest.mark.parametrize("password", ["", "correct-horse", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"])
def test_the_password_of_mitmweb_may_be_long_a_hash_or_left_out(password):
    assert load_settings(None, {"SOLARIS_INSPECT_PASSWORD": password}).inspect.password == password


@pytest.mark.parametrize("password", ["short", "           1", "1           ", " " * 20, "$argon", "$1$12345678901234"])
def test_a_password_that_is_easily_guessed_is_refused(load, password):
    told = refusal(load, f'[inspect]\npassword = "{password}"\n')
    assert "inspect.password: it opens all traffic: use 12 characters or more" in told
    assert "openssl" in told


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("", None),
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::]:9464", ("::", 9464)),
        ("solaris.example.com:9464", ("solaris.example.com", 9464)),
    ],
)
def test_where_metrics_are_served_is_an_address(load, listen, address):
    assert load(f'[observe]\nlisten = "{listen}"\n').observe.address == address


@pytest.mark.parametrize("listen", ["9464x", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:9464", "a b:1", ":1"])
def test_an_address_that_is_none_stops_the_start(load, listen):
    message = refusal(load, f'[observe]\nlisten = "{listen}"\n')
    assert "observe.listen" in message
    assert repr(listen) in message


@pytest.mark.parametrize("endpoint", ["collector:4318", "http://", "ftp://collector"])
def test_a_collector_that_is_no_url_stops_the_start(load, endpoint):
    assert "observe.otlp_endpoint" in refusal(load, f'[observe]\notlp_endpoint = "{endpoint}"\n')


def test_observing_tells_nobody_s_name_and_no_collector_by_default():
    observe = Settings().observe
    assert (observe.users, observe.otlp_endpoint, observe.log) == (False, "", "text")
