"""Options of the S3 adapter that cannot be: each is named in one line, before anything is sent."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from amfs import AgentMemory, ConfigurationError
from amfs.cli import amfs as program
from amfs_curl.curl import Curl
from amfs_s3 import S3Adapter, client_options
from amfs_s3.endpoint import resolve
from amfs_s3.settings import ENCRYPTIONS

KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "hunter2-secret",
}


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AMFS_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)


def adapter(**options: Any) -> S3Adapter:
    return S3Adapter(
        **{"bucket": "a-bucket", "endpoint_url": "http://127.0.0.1:9", **KEYS, **options}
    )


# -- arguments -------------------------------------------------------------------------------

WRONG: list[tuple[str, object, str]] = [
    ("bucket", None, "bucket must be text, not NoneType"),
    ("bucket", "s3://b", "bucket cannot be 's3://b'"),
    ("prefix", None, "prefix must be text, not NoneType"),
    ("endpoint_url", 5, "endpoint_url must be text, not int"),
    ("region_name", b"x", "region_name must be text, not bytes"),
    ("aws_session_token", "a\nb", "aws_session_token has a line break"),
    ("timeout", "x", "timeout must be seconds, above 0"),
    ("timeout", float("inf"), "timeout must be seconds"),
    ("timeout", float("nan"), "timeout must be seconds"),
    ("timeout", True, "timeout must be seconds"),
    ("timeout", 0, "timeout must be seconds"),
    ("connect_timeout", 1e300, "connect_timeout must be seconds, above 0 and up to 86,400"),
    ("max_concurrency", 1.5, "max_concurrency must be a whole number"),
    ("max_concurrency", 0, "max_concurrency must be a whole number"),
    ("server_side_encryption", "aes256", "server_side_encryption must be one of 'AES256'"),
    ("server_side_encryption", "aws:kmss", "did you mean 'aws:kms'?"),
    ("server_side_encryption", 5, "server_side_encryption must be one of"),
    ("addressing_style", "x", "addressing_style must be one of 'auto', 'path', 'virtual'"),
    ("addressing_style", "Path", "did you mean 'path'?"),
    ("client_options", 5, "client_options must be a dict, not int"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_an_argument_that_cannot_be_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        adapter(**{name: value})
    assert str(raised.value).startswith(name) and message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ENCRYPTIONS)
def test_every_kind_of_encryption_is_one_that_the_client_takes(name: str) -> None:
    adapter(server_side_encryption=name)._connection()


@pytest.mark.parametrize(
    ("option", "value"), [("AWS_ACCESS_KEY_ID", "a\nb"), ("AWS_SESSION_TOKEN", "secret\x01")]
)
def test_credentials_that_no_header_carries_are_refused(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv(option, value)
    memory = AgentMemory("a", adapter=S3Adapter("a-bucket", endpoint_url="http://127.0.0.1:9"))
    error = memory.health().error
    assert isinstance(error, ConfigurationError)
    assert "of the AWS credentials has a line break" in str(error) and "secret" not in str(error)


def test_a_region_that_no_header_carries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "a\nb")
    error = AgentMemory("a", adapter=adapter(region_name=None)).health().error
    assert isinstance(error, ConfigurationError) and "\n" not in str(error)


def test_certificates_that_are_none_are_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("none", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"):
        (tmp_path / "ca.pem").write_text(text)
        monkeypatch.setenv("AWS_CA_BUNDLE", "ca.pem")
        error = AgentMemory("a", adapter=adapter()).health().error
        assert isinstance(error, ConfigurationError)
        assert "AWS_CA_BUNDLE" in str(error) and "\n" not in str(error)


# -- client_options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timout": 5}, "client_options.timout is unknown; did you mean 'timeout'?"),
        ({"xyzzy": 5}, "client_options.xyzzy is unknown; known are allow_http, "),
        ({5: 5}, "client_options.5 is unknown"),
        ({"proxy_url": "::bad"}, "client_options.proxy_url "),
        ({"proxy_url": "http://me:hunter2@h:99999"}, "client_options.proxy_url has a port"),
        ({"proxy_url": ""}, "client_options.proxy_url names no host"),
        ({"allow_http": "maybe"}, "client_options.allow_http must be true or false"),
        ({"timeout": "abc"}, "client_options.timeout must be a length of time with its unit"),
        ({"timeout": 5}, "client_options.timeout must be a length of time with its unit"),
        ({"default_headers": {"a": "hunter2\n"}}, "client_options.default_headers has the header"),
        ({"default_headers": {"a b": "c"}}, "client_options.default_headers has a header whose"),
        ({"user_agent": "a\nb"}, "client_options.user_agent must be ASCII text on one line"),
        ({"root_certificate": "abc"}, "client_options.root_certificate must be certificates"),
        (
            {"root_certificate": "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"},
            "client_options.root_certificate must be certificates",
        ),
    ],
)
def test_a_client_option_that_cannot_be_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        adapter(client_options=options)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value) and "hunter2" not in str(raised.value)


def test_every_value_that_is_taken_sets_up_the_client() -> None:
    values: list[Any] = [
        *(True, False, "5s", "2h 37min", "1.5s", timedelta(seconds=5), "x y", ""),
        *("http://localhost:8080", "localhost:8080", {"a": "b"}, {"a": b"b"}, "999999999y", "1M"),
    ]
    taken = 0
    for name in client_options._KINDS:
        for value in values:
            try:
                made = adapter(client_options={name: value})
            except ConfigurationError:
                continue
            Curl(made._connection().transport._set_options)._new().close()
            taken += 1
    assert taken > len(client_options._KINDS)


@pytest.mark.parametrize(
    ("text", "length"),
    [("5s", 5), ("1.5s", 1.5), ("250ms", 0.25), ("2h 37min", 9420), ("1d2h", 93_600)],
)
def test_a_length_of_time_is_read_with_its_unit(text: str, length: float) -> None:
    assert client_options.seconds({"timeout": text}, "timeout", 0.0) == length


@pytest.mark.parametrize("name", ["http2_only", "randomize_addresses"])
def test_an_option_of_the_former_client_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"client_options.{name} is not an option any"):
        adapter(client_options={name: True})


# -- in the file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("client_options:\n        timout: 5", 7, "client_options.timout is unknown; did you mean"),
        ("client_options: {proxy_url: '::bad'}", 6, "client_options.proxy_url "),
        ("client_options:\n        allow_http: maybe", 7, "client_options.allow_http must be"),
        ("client_options:\n        timeout: abc", 7, "client_options.timeout must be a length"),
        ("server_side_encryption: aes256", 6, "server_side_encryption must be one of"),
        ("timeout: .inf", 6, "timeout must be seconds"),
        ("timeout: .nan", 6, "timeout must be seconds"),
        ("connect_timeout: 1.0e+400", 6, "connect_timeout must be seconds"),
        ("connect_timeout: 1e400", 6, "'connect_timeout': it must be a number"),
        ("connect_timeout: soon", 6, "'connect_timeout': it must be a number"),
    ],
)
def test_an_error_in_the_file_is_reported_with_its_line_by_every_command(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    (tmp_path / "amfs.yaml").write_text(
        "layers:\n  primary:\n    adapter: s3\n    options:\n      bucket: a-bucket\n"
        f"      {text}\n"
    )
    for command in ("ls", "health"):
        done = CliRunner().invoke(program, [command])
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"amfs: amfs.yaml line {line}: {message}")
    done = CliRunner().invoke(program, ["doctor", "--json"])
    findings = [json.loads(json_line) for json_line in done.stdout.splitlines()]
    (store,) = (finding for finding in findings if finding["name"] == "store")
    assert done.exit_code == 1 and store["verdict"] == "problem"
    assert f"amfs.yaml line {line}: {message}" in f"{store['found']}; {store['hint']}"


# -- the endpoint ----------------------------------------------------------------------------

NO_ENDPOINTS = [
    *("http://localhost:99999", "http://localhost:abc", "http://localhost:0", "http://300.1.1.1:1"),
    *("http://1.2.3.4.5:1", "http://[::1", "http://[x]:1", "http://a b", "http://h%zz", "http://1"),
    *("http://bücher:1", "http://xn--:1", "http://localhost:1/a b", "http://localhost:1\\a"),
    *("http://a_b:1", "https://", "//h", "http://[fe80::1%25eth0]:1"),
]


@pytest.mark.parametrize("way", ["AMFS_S3_ENDPOINT", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("url", NO_ENDPOINTS)
def test_an_endpoint_that_is_none_is_one_line_of_every_command(
    url: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMFS_S3_BUCKET", "a-bucket")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(way, url)
    for command, code in (("ls", 2), ("health", 1)):
        done = CliRunner().invoke(program, [command])
        assert done.exit_code == code, done.output
        assert done.stderr.count("\n") == 1 and "endpoint_url" in done.stderr
    assert isinstance(AgentMemory("a").health().error, ConfigurationError)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[::1]:9"])
def test_a_bucket_is_put_before_no_address(url: str) -> None:
    memory = AgentMemory("a", adapter=adapter(endpoint_url=url, addressing_style="virtual"))
    with pytest.raises(ConfigurationError, match="addressing_style 'virtual' puts the bucket"):
        memory.read("e", "k")


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost:9", "HTTP://localhost:9", "http://127.0.0.1", "http://[::1]:9"),
        *("https://s3.eu-west-1.amazonaws.com", "http://a.b-c.example:65535/path", "http://h:9/"),
        *("http://me:hunter2@h:9", "http://xn--bcher-kva.example"),
    ],
)
def test_an_endpoint_that_is_one_is_taken(url: str) -> None:
    assert resolve(adapter(endpoint_url=url)._settings).url


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/?sig=hunter2", "http://127.0.0.1:9#hunter2"])
@pytest.mark.parametrize("way", ["AMFS_S3_ENDPOINT", "AWS_ENDPOINT_URL"])
def test_a_query_is_refused_and_shown_nowhere(
    url: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMFS_S3_BUCKET", "a-bucket")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(way, url)
    for command in ("ls", "doctor", "health"):
        done = CliRunner().invoke(program, [command])
        assert done.exit_code in (1, 2)
        assert "must end before the query" in done.output and "hunter2" not in done.output


@pytest.mark.parametrize("url", ["http://me:hunter2@a_b:1", "http://me:hunter2 @h", "me:hunter2@h"])
@pytest.mark.parametrize("way", ["argument", "variable"])
def test_no_error_about_an_endpoint_repeats_its_password(
    url: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    memory = AgentMemory("a", adapter=adapter(endpoint_url=url if way == "argument" else None))
    with pytest.raises(ConfigurationError) as raised:
        memory.read("e", "k")
    error: BaseException | None = raised.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r}".replace("hunter2-secret", "")
        error = error.__cause__ or error.__context__
