"""fleetd's settings: the grammar of the file, what comes before what, what is refused and how."""

from fractions import Fraction
from pathlib import Path

import pytest

from fleet.config import Config, OnStop, load_config, parse_config
from fleet.errors import InvalidRequest

_FILE = "fleet.conf"


def _config(text: str = "", **environ: str) -> Config:
    config, warnings = parse_config(text, _FILE, environ)
    assert warnings == ()
    return config


def _warnings(text: str = "", **environ: str) -> tuple[str, ...]:
    return parse_config(text, _FILE, environ)[1]


def test_defaults() -> None:
    config = _config()

    assert config == Config()
    assert config.etcd_servers == ()
    assert config.etcd_key_prefix == "/fleet/"
    assert config.etcd_request_timeout_s == 1.0
    assert config.engine_reconcile_interval_s == 30.0
    assert config.agent_ttl_s == 6.0
    assert config.units_directory == Path("/run/fleet/units")
    assert config.token_limit == 100
    assert config.on_stop is OnStop.KEEP
    assert config.data_directory == Path("/var/lib/fleet")
    assert config.socket == Path("/run/fleet.sock")
    assert config.mass_loss_hold_s == 300.0
    assert not config.disable_engine
    assert not config.systemd_user


def test_every_option_can_be_set() -> None:
    config = _config("""
        verbosity=1
        etcd_servers=http://a:2379
        etcd_username=fleet
        etcd_password=secret
        etcd_keyfile=/k
        etcd_certfile=/c
        etcd_cafile=/ca
        etcd_key_prefix=/x/
        etcd_request_timeout=2.5
        engine_reconcile_interval=10
        public_ip=10.0.0.1
        metadata=a=b
        agent_ttl=10s
        units_directory=/u/
        systemd_user=true
        token_limit=7
        disable_engine=true
        on_stop=leave
        data_directory=/d
        socket=/s
        api_certfile=/ac
        api_keyfile=/ak
        api_cafile=/aca
        mass_loss_hold=1m30s
        mass_loss_part=1/2
        fence_margin=500ms
    """)

    assert config == Config(
        verbosity=1,
        etcd_servers=("http://a:2379",),
        etcd_username="fleet",
        etcd_password="secret",
        etcd_keyfile=Path("/k"),
        etcd_certfile=Path("/c"),
        etcd_cafile=Path("/ca"),
        etcd_key_prefix="/x/",
        etcd_request_timeout_s=2.5,
        engine_reconcile_interval_s=10.0,
        public_ip="10.0.0.1",
        metadata={"a": "b"},
        agent_ttl_s=10.0,
        units_directory=Path("/u"),
        systemd_user=True,
        token_limit=7,
        disable_engine=True,
        on_stop=OnStop.LEAVE,
        data_directory=Path("/d"),
        socket=Path("/s"),
        api_certfile=Path("/ac"),
        api_keyfile=Path("/ak"),
        api_cafile=Path("/aca"),
        mass_loss_hold_s=90.0,
        mass_loss_part=Fraction(1, 2),
        fence_margin_s=0.5,
    )


@pytest.mark.parametrize(
    ("text", "public_ip"),
    [
        pytest.param("public_ip=a", "a", id="bare"),
        pytest.param("  public_ip  =  a  ", "a", id="blanks around it"),
        pytest.param('public_ip="a b"', "a b", id="double quotes"),
        pytest.param("public_ip='a b'", "a b", id="single quotes"),
        pytest.param("public_ip='a \"b'", 'a "b', id="one quote in the other"),
        pytest.param("public_ip=a # b", "a", id="a comment after it"),
        pytest.param("public_ip=a;b", "a", id="a semicolon ends it"),
        pytest.param('public_ip="a;b#c"', "a;b#c", id="in quotes they do not"),
        pytest.param('public_ip="a" # b', "a", id="a comment after quotes"),
        pytest.param("PUBLIC_IP=a", "a", id="case does not count"),
        pytest.param("# public_ip=b\npublic_ip=a\n; public_ip=c", "a", id="comments"),
        pytest.param("public_ip=a\\\nb", "ab", id="two lines"),
        pytest.param("public_ip=a\\\n  b\\\n  c", "abc", id="three lines, trimmed"),
        pytest.param("public_ip=a\\", "a", id="a backslash at the very end"),
        pytest.param("public_ip=", "", id="empty"),
        pytest.param('public_ip=""', "", id="empty quotes"),
        pytest.param("public_ip= # b", "", id="only a comment"),
        pytest.param("public_ip=a=b", "a=b", id="the first equals sign parts"),
        pytest.param("\ufeffpublic_ip=a", "a", id="a byte order mark"),
        pytest.param("\r\n\r\npublic_ip=a\r\n", "a", id="carriage returns"),
    ],
)
def test_file_grammar(text: str, public_ip: str) -> None:
    assert _config(text).public_ip == public_ip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("\nwords", "fleet.conf:2: 'words' is neither", id="no equals sign"),
        pytest.param("=a", "fleet.conf:1: '=a' is neither", id="no name"),
        pytest.param("two words=a", "fleet.conf:1: 'two words=a' is neither", id="a blank in it"),
        pytest.param('public_ip="a', "fleet.conf:1: public_ip has a quote without", id="quote"),
        pytest.param("a=\\\n1\n\nwords", "fleet.conf:4: 'words'", id="lines are counted"),
    ],
)
def test_file_that_is_malformed_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_config(text, _FILE, {})

    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        pytest.param("verbosity = loud", "write a whole number", id="a word for a number"),
        pytest.param("verbosity = -1", "write a whole number", id="a negative number"),
        pytest.param("token_limit = 0", "write a number from 1 to 65535", id="no page"),
        pytest.param("token_limit = 65536", "write a number from 1 to 65535", id="beyond 16 bits"),
        pytest.param("disable_engine = yes", "write true or false", id="a word Go does not know"),
        pytest.param("systemd_user = tRUE", "write true or false", id="a case Go does not know"),
        pytest.param("enable_grpc = maybe", "write true or false", id="of an option of old"),
        pytest.param("agent_ttl = 30", "write for example 30s", id="a duration without a unit"),
        pytest.param("agent_ttl = 1s", "the shortest that stores can keep is 2s", id="too short"),
        pytest.param("mass_loss_part = 2", "a part of all machines", id="more than all"),
        pytest.param("mass_loss_part = 1/0", "a part of all machines", id="a part of nothing"),
        pytest.param("mass_loss_part = some", "a part of all machines", id="no part"),
        pytest.param("mass_loss_hold = long", "is no duration", id="no duration"),
        pytest.param("etcd_request_timeout = 0", "number of seconds above 0", id="no time at all"),
        pytest.param("etcd_request_timeout = inf", "number of seconds above 0", id="for ever"),
        pytest.param("etcd_request_timeout = nan", "number of seconds above 0", id="no number"),
        pytest.param("engine_reconcile_interval = x", "is no duration", id="no interval"),
        pytest.param("etcd_servers = a:2379", "is no http:// or https:// URL", id="no scheme"),
        pytest.param("etcd_servers = http://a,b", "'b' is no http://", id="the second of two"),
        pytest.param("etcd_servers = http://", "is no http://", id="no host"),
        pytest.param("etcd_servers = http://a:x", "no usable port", id="no port"),
        pytest.param("etcd_servers = http://[::1]:0", "no usable port", id="port zero"),
        pytest.param("etcd_servers = http://a:65536", "no usable port", id="a port too high"),
        pytest.param("metadata = disk", "'disk' is not key=value", id="no value"),
        pytest.param("metadata = a=b,=c", "'=c' is not key=value", id="no key"),
        pytest.param("metadata = a=b=c", "'a=b=c' is not key=value", id="two equals signs"),
        pytest.param("units_directory = units", "write an absolute path", id="a relative path"),
        pytest.param("on_stop = purge", "write one of keep, leave", id="neither keep nor leave"),
    ],
)
def test_value_that_cannot_be_read_is_refused_wherever_it_stands(line: str, advice: str) -> None:
    option, _, value = (part.strip() for part in line.partition("="))
    variable = f"FLEET_{option.upper()}"

    with pytest.raises(InvalidRequest) as of_file:
        parse_config(f"\n# words\n{line}", _FILE, {})
    with pytest.raises(InvalidRequest) as of_environment:
        parse_config("", _FILE, {variable: value})

    assert str(of_file.value).startswith(f"fleet.conf:3: {option} = {value}: ")
    assert str(of_environment.value).startswith(f"{variable} = {value}: ")
    assert advice in str(of_file.value)
    assert advice in str(of_environment.value)


def test_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidRequest, match="name the user in etcd_username") as refusal:
        parse_config("etcd_servers=http://a:1,https://root:secret@b:1/", _FILE, {})

    assert "etcd_servers = http://a:1,https://...@b:1/: " in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("etcd_keyfile=/k", "etcd_keyfile and etcd_certfile", id="key alone"),
        pytest.param("etcd_certfile=/c", "etcd_keyfile and etcd_certfile", id="certificate alone"),
        pytest.param("api_certfile=/c\napi_keyfile=/k", "set all three", id="TLS that asks nobody"),
        pytest.param("api_cafile=/a", "set all three", id="an authority alone"),
        pytest.param(
            "api_certfile=/c\napi_keyfile=/k\napi_cafile=/a\napi_insecure=true",
            "contradict each other",
            id="TLS and none",
        ),
        pytest.param("fence_margin=4s", "more than half of agent_ttl=6s", id="no time left"),
        pytest.param("etcd_password=p", "etcd_password is set without etcd_username", id="no user"),
    ],
)
def test_halves_of_pairs_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_config(text, _FILE, {})


def test_environment_counts_before_the_file() -> None:
    assert _config("agent_ttl=10s\nverbosity=1", FLEET_AGENT_TTL="20s") == Config(
        agent_ttl_s=20.0, verbosity=1
    )


def test_empty_variable_is_the_default_whatever_the_file_says() -> None:
    config = _config("agent_ttl=10s\npublic_ip=a", FLEET_AGENT_TTL="", FLEET_PUBLIC_IP="")

    assert config == Config()


def test_other_variables_are_not_looked_at() -> None:
    assert _config(FLEETCTL_ENDPOINT="x", fleet_verbosity="1", PATH="/bin") == Config()


@pytest.mark.parametrize("word", ["1", "t", "T", "TRUE", "true", "True"])
def test_boolean_is_true(word: str) -> None:
    assert _config(f"disable_engine={word}").disable_engine


@pytest.mark.parametrize("word", ["0", "f", "F", "FALSE", "false", "False", ""])
def test_boolean_is_false(word: str) -> None:
    assert not _config(f"disable_engine={word}").disable_engine


@pytest.mark.parametrize(
    ("value", "servers"),
    [
        pytest.param("http://a:2379", ("http://a:2379",), id="one"),
        pytest.param("http://a,https://b:1", ("http://a", "https://b:1"), id="two"),
        pytest.param("http://a , http://b ", ("http://a", "http://b"), id="blanks"),
        pytest.param('["http://a", "http://b"]', ("http://a", "http://b"), id="a JSON list"),
        pytest.param("['http://a']", ("http://a",), id="single quotes"),
        pytest.param("http://a/,", ("http://a",), id="a comma and a slash at the end"),
        pytest.param("http://[::1]:2379", ("http://[::1]:2379",), id="IPv6"),
        pytest.param("[]", (), id="an empty list"),
        pytest.param("", (), id="nothing"),
    ],
)
def test_servers_are_listed(value: str, servers: tuple[str, ...]) -> None:
    assert _config(f"etcd_servers={value}").etcd_servers == servers
    assert _config(FLEET_ETCD_SERVERS=value).etcd_servers == servers


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        pytest.param("/fleet/", "/fleet/", id="as it is to be"),
        pytest.param("fleet", "/fleet/", id="bare"),
        pytest.param("/_coreos.com/fleet", "/_coreos.com/fleet/", id="no slash at the end"),
        pytest.param("//a//b//", "/a/b/", id="slashes too many"),
        pytest.param("/", "/", id="the whole store"),
        pytest.param("", "/fleet/", id="the default"),
    ],
)
def test_key_prefix_has_its_slashes(value: str, prefix: str) -> None:
    assert _config(f"etcd_key_prefix={value}").etcd_key_prefix == prefix


@pytest.mark.parametrize(
    ("value", "metadata"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("a=b", {"a": "b"}, id="one"),
        pytest.param(" a = b , c = d ", {"a": "b", "c": "d"}, id="blanks"),
        pytest.param("a=b,,", {"a": "b"}, id="commas too many"),
        pytest.param("a=b,a=c", {"a": "c"}, id="the last of two counts"),
        pytest.param("a=", {"a": ""}, id="an empty value"),
    ],
)
def test_metadata_is_read(value: str, metadata: dict[str, str]) -> None:
    assert _config(f'metadata="{value}"').metadata == metadata
    assert _config(FLEET_METADATA=value).metadata == metadata


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("1", 1.0, id="a number, as in the original"),
        pytest.param("0.5", 0.5, id="a fraction"),
        pytest.param("500ms", 0.5, id="a duration"),
        pytest.param("1m30s", 90.0, id="a long one"),
    ],
)
def test_seconds_are_a_number_or_a_duration(value: str, seconds: float) -> None:
    assert _config(f"etcd_request_timeout={value}").etcd_request_timeout_s == seconds
    assert _config(f"engine_reconcile_interval={value}").engine_reconcile_interval_s == seconds


@pytest.mark.parametrize(
    ("text", "environ", "warning"),
    [
        pytest.param(
            "\netcd_server=x",
            {},
            "fleet.conf:2: etcd_server is no option of fleetd; did you mean etcd_servers?",
            id="an option misspelt",
        ),
        pytest.param("pants=on", {}, "fleet.conf:1: pants is no option of fleetd", id="no option"),
        pytest.param(
            "",
            {"FLEET_METADTA": "a=b"},
            "FLEET_METADTA is no variable of fleetd; did you mean FLEET_METADATA?",
            id="a variable misspelt",
        ),
        pytest.param(
            "", {"FLEET_PANTS": "on"}, "FLEET_PANTS is no variable of fleetd", id="no variable"
        ),
        pytest.param(
            "[fleet]\nverbosity=1",
            {},
            "fleet.conf:1: section [fleet] is passed over: options stand before any section",
            id="a section",
        ),
        pytest.param(
            "verbosity=1\nVerbosity=0",
            {},
            "fleet.conf:2: verbosity is set a second time, and this one counts",
            id="an option set twice",
        ),
    ],
)
def test_what_means_nothing_is_warned_of(text: str, environ: dict[str, str], warning: str) -> None:
    config, warnings = parse_config(text, _FILE, environ)

    assert warnings == (warning,)
    assert config == Config()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("disable_watches=true", "no change would reach it", id="watches"),
        pytest.param("enable_grpc=true", "through the store alone", id="gRPC"),
        pytest.param("verify_units=true", "not signed", id="signatures"),
        pytest.param("authorized_keys_file=/k", "not signed", id="keys of signers"),
    ],
)
def test_options_of_the_original_that_mean_nothing_here_are_warned_of(text: str, why: str) -> None:
    option, _, value = text.partition("=")

    (of_file,) = _warnings(text)
    (of_environment,) = parse_config("", _FILE, {f"FLEET_{option.upper()}": value})[1]

    assert of_file.startswith(f"fleet.conf:1: {option} means nothing here: ")
    assert of_environment.startswith(f"FLEET_{option.upper()} means nothing here: ")
    assert why in of_file


def test_options_of_the_original_that_are_off_are_not_warned_of() -> None:
    assert _warnings("disable_watches=false\nenable_grpc=0\nauthorized_keys_file=") == ()


def test_password_is_not_shown() -> None:
    config = _config("etcd_username=fleet\netcd_password=secret")

    assert config.etcd_password == "secret"
    assert "secret" not in repr(config)
    assert "etcd_password" not in repr(config)


def test_file_that_is_given_is_read(tmp_path: Path) -> None:
    path = tmp_path / "my.conf"
    path.write_text("verbosity=1\nfoo=1")

    config, warnings = load_config(path, {"FLEET_TOKEN_LIMIT": "5"})

    assert config == Config(verbosity=1, token_limit=5)
    assert warnings == (f"{path}:2: foo is no option of fleetd",)


def test_file_that_is_given_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"my\.conf does not exist"):
        load_config(tmp_path / "my.conf", {})


def test_default_file_is_read_if_it_is_there(tmp_path: Path) -> None:
    default = tmp_path / "fleet.conf"

    assert load_config(None, {}, default=default) == (Config(), ())
    default.write_text("verbosity=1")
    assert load_config(None, {}, default=default)[0].verbosity == 1


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.conf").write_bytes(b"public_ip=\xff")

    with pytest.raises(InvalidRequest, match=r"bytes\.conf is not UTF-8 text"):
        load_config(tmp_path / "bytes.conf", {})
    with pytest.raises(InvalidRequest, match=r"cannot read configuration file .*: Is a dir"):
        load_config(tmp_path, {})
    with pytest.raises(InvalidRequest, match="cannot read configuration file"):
        load_config(None, {}, default=tmp_path)
