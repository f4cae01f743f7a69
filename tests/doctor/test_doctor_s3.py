"""`amfs doctor` on buckets: real servers, and what can be wrong on the way to them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from amfs.doctor import diagnose
from amfs_core.doctor import Diagnosis, examine
from amfs_s3 import proof
from tests.cli.test_cli import empty_surroundings, run  # noqa: F401
from tests.conftest import NOT_COVERED, ProxyFactory
from tests.doctor.test_doctor import TRIAL, by_name, problems
from tests.s3.test_s3_errors import (
    SECRET,
    TOKEN,
    authority,  # noqa: F401
    black_hole,
    reader_keys,  # noqa: F401
    refusal,
    silence,
    tls_in_front_of,
)
from tests.support import servers
from tests.support.proxy import Fault
from tests.support.s3_store import Place, answering, keys_of, s3_error
from tests.support.servers import Server
from tests.watch.test_doorbell import pushing  # noqa: F401

BUCKET = (
    *("configuration", "store", "credentials", "endpoint", "tls", "server", "clock", "sign-in"),
    *("bucket", *TRIAL, "versioning", "object lock", "memories"),
)

Configure = Callable[..., None]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Sets the variables for a place, and others."""

    def to(place: Place, **more: str) -> None:
        variables = {
            "AMFS_S3_BUCKET": place.bucket,
            "AMFS_S3_ENDPOINT": place.endpoint_url,
            "AWS_ACCESS_KEY_ID": place.access_key,
            "AWS_SECRET_ACCESS_KEY": place.secret_key,
            **more,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return to


def told(*secrets: str) -> dict[str, Diagnosis]:
    """What doctor finds, once it is seen that no secret is in it."""
    findings = list(diagnose())
    assert not [finding for finding in findings for secret in secrets if secret in repr(finding)]
    return by_name(findings)


def all_skipped(findings: dict[str, Diagnosis], *names: str) -> bool:
    return {str(findings[name].verdict) for name in names} == {"skipped"}


# --- real servers --------------------------------------------------------------------------------


def test_a_bucket_is_fine_for_about_20_requests_and_nothing_is_left_in_it(
    s3_server: Server, bucket: str, configure: Configure, proxy: ProxyFactory
) -> None:
    wire = proxy(s3_server)
    place = Place.on(s3_server, bucket, wire.endpoint_url)
    configure(place)
    findings = told(s3_server.secret_key, s3_server.access_key)
    assert tuple(findings) == BUCKET
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert len(wire.requests) <= 24
    assert f"…{s3_server.access_key[-4:]} from the AWS_* variables" in findings["credentials"].found
    assert wire.endpoint_url in findings["endpoint"].found
    software = {"minio": "MinIO", "versity": "VERSITYGW"}.get(s3_server.name, "")
    assert software in findings["server"].found
    assert keys_of(s3_server.boto3_client(), bucket) == []
    with place.memory() as memory:
        memory.write("e", "k", 1)
    wire.reset()
    assert "e/k v1 is intact" in told()["memories"].found
    assert len(wire.requests) <= 20  # the proof is remembered
    assert len(keys_of(s3_server.boto3_client(), bucket)) == 1


def test_the_command_says_all_is_well_of_a_bucket(
    s3_server: Server, bucket: str, configure: Configure
) -> None:
    configure(Place.on(s3_server, bucket))
    done = run("--store", f"s3://{bucket}/else/where", "doctor", "--json")
    assert done.exit_code == 0
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [finding["name"] for finding in findings] == list(BUCKET)
    assert f"s3 at s3://{bucket}/else/where (--store)" in findings[1]["found"]
    assert run("doctor").stdout.endswith("all is well\n")


def test_a_minio_that_pushes_events_is_reported_as_a_doorbell(
    pushing: Server,  # noqa: F811
    configure: Configure,
) -> None:
    configure(Place.on(pushing, pushing.new_bucket()))
    assert told()["doorbell"].found == "changes ring at once"


def test_a_wrong_secret_is_a_problem_of_the_sign_in(
    s3_server: Server, bucket: str, configure: Configure
) -> None:
    configure(Place(bucket, s3_server.endpoint_url, s3_server.access_key, SECRET))
    findings = told(SECRET)
    assert problems(findings.values()) == ["sign-in"]
    assert "AWS_SECRET_ACCESS_KEY" in findings["sign-in"].hint
    assert all_skipped(findings, "bucket", "create", "versioning", "memories")
    assert run("doctor").exit_code == 1


def test_an_absent_bucket_is_a_problem_of_the_bucket(
    s3_server: Server, configure: Configure
) -> None:
    configure(Place.on(s3_server, "no-such-bucket-here"))
    findings = told()
    assert problems(findings.values()) == ["bucket"]
    assert "aws s3 mb" in findings["bucket"].hint
    assert findings["sign-in"].verdict == "ok"
    assert all_skipped(findings, *TRIAL, "memories")


def test_a_read_only_user_gets_a_warning_and_a_readable_store(
    minio: Server,
    reader_keys: tuple[str, str],  # noqa: F811
    configure: Configure,
) -> None:
    bucket = minio.new_bucket()
    with Place.on(minio, bucket).memory() as owner:
        owner.write("e", "k", 1)
    configure(Place(bucket, minio.endpoint_url, *reader_keys))
    findings = told(reader_keys[1])
    assert not problems(findings.values())
    assert findings["create"].verdict == "warning"
    assert "may only be read" in findings["create"].found
    assert all_skipped(findings, "conditional create", "replace", "delete")
    assert "e/k v1 is intact" in findings["memories"].found


def test_versions_that_the_bucket_keeps_are_a_warning(minio: Server, configure: Configure) -> None:
    if minio.name != "minio":
        pytest.skip(f"{NOT_COVERED} doctor on a bucket with versions: there is no MinIO")
    bucket = f"{minio.new_bucket()}-locked"
    client = minio.boto3_client()
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule: Any = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
    )
    configure(Place.on(minio, bucket))
    findings = told()
    assert findings["versioning"].verdict == findings["object lock"].verdict == "warning"
    assert "noncurrent" in findings["versioning"].found
    assert "1 days (GOVERNANCE)" in findings["object lock"].found


# --- the way there -------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_endpoint_that_cannot_be_reached_has_its_verdict_in_15_seconds(
    configure: Configure,
) -> None:
    def of(url: str) -> tuple[dict[str, Diagnosis], float]:
        started = time.monotonic()
        with_adapter = Place("a-bucket", url, "AKIDFORTESTS", SECRET).adapter()
        findings = by_name(examine(with_adapter.checks()))
        return findings, time.monotonic() - started

    with refusal() as nobody, black_hole() as hole, silence() as mute:
        urls = (nobody, hole, mute, "http://no-such-host.invalid:9000")
        with ThreadPoolExecutor(len(urls)) as threads:  # side by side: the time of one
            results = list(threads.map(partial(of), urls))
    where = ("endpoint", "endpoint", "server", "endpoint")
    for (findings, seconds), name in zip(results, where, strict=True):
        assert problems(findings.values()) == [name]
        assert seconds < 15
        assert "endpoint_url" in findings[name].hint
        assert all_skipped(findings, "clock", "sign-in", *TRIAL)


def test_without_credentials_the_hint_says_where_to_put_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AMFS_S3_BUCKET", "a-bucket")
    findings = told()
    assert problems(findings.values()) == ["credentials"]
    assert "AWS_ACCESS_KEY_ID" in findings["credentials"].hint
    assert all_skipped(findings, "endpoint", "clock", "create", "memories")


def test_credentials_that_expire_say_when_and_where_they_come_from(
    minio: Server, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = minio.new_bucket()
    configure(Place.on(minio, bucket))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials = {
        "Version": 1,
        "AccessKeyId": minio.access_key,
        "SecretAccessKey": minio.secret_key,
        "Expiration": "2099-01-02T03:04:05Z",
    }
    (tmp_path / "given.json").write_text(json.dumps(credentials))
    process = f"cat {tmp_path}/given.json"
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {process}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    findings = told(minio.secret_key)
    assert not problems(findings.values())
    for part in ("the profile's credential_process", "until 2099-01-02 03:04Z"):
        assert part in findings["credentials"].found


def test_https_to_a_port_without_tls_is_reported_as_such(
    minio: Server, configure: Configure
) -> None:
    url = minio.endpoint_url.replace("http://", "https://")
    configure(Place.on(minio, "a-bucket", url))
    findings = told()
    assert problems(findings.values()) == ["tls"]
    assert "http://" in findings["tls"].hint


def test_a_certificate_is_trusted_by_its_authority_alone_and_its_end_is_told(
    minio: Server,
    authority: Path,  # noqa: F811
    configure: Configure,
) -> None:
    bucket = minio.new_bucket()
    with tls_in_front_of(minio, authority) as url:
        configure(Place.on(minio, bucket, url))
        findings = told()
        assert problems(findings.values()) == ["tls"]
        assert "AWS_CA_BUNDLE" in findings["tls"].hint
        configure(Place.on(minio, bucket, url), AWS_CA_BUNDLE=str(authority / "authority.pem"))
        findings = told()
        assert not problems(findings.values())
        assert findings["tls"].verdict == "warning"  # it ends tomorrow
        assert "valid until" in findings["tls"].found
        configure(Place.on(minio, bucket, url.replace("127.0.0.1", "localhost")))
        findings = told()
        assert "as the certificate does" in findings["tls"].hint


@pytest.mark.parametrize(
    ("minutes", "verdict", "words"),
    [
        (0, "ok", ""),
        (2.5, "warning", "behind"),
        (-2.5, "warning", "ahead of"),
        (20, "problem", "20 minutes behind"),
    ],
)
def test_a_clock_that_is_off_is_found_in_the_first_answer(
    minutes: float,
    verdict: str,
    words: str,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda *_: there)
    with answering(lambda _: s3_error(403, "RequestTimeTooSkewed")) as url:
        configure(Place("a-bucket", url, "AKIDFORTESTS", SECRET), AWS_SESSION_TOKEN=TOKEN)
        findings = told(SECRET, TOKEN)
    assert findings["clock"].verdict == verdict
    assert words in findings["clock"].found
    assert minutes == 0 or "RequestTimeTooSkewed" in findings["clock"].hint
    assert "clock" in findings["sign-in"].hint + findings["sign-in"].found


@pytest.mark.parametrize("is_proved", [False, True])
def test_an_endpoint_that_ignores_the_condition_is_a_problem_also_if_it_once_did_not(
    minio: Server,
    configure: Configure,
    proxy: ProxyFactory,
    monkeypatch: pytest.MonkeyPatch,
    is_proved: bool,
) -> None:
    monkeypatch.setattr(proof, "_is_fresh", lambda _: is_proved)
    bucket = minio.new_bucket()
    wire = proxy(minio)
    wire.inject(Fault.IGNORE_IF_NONE_MATCH, lambda request: request.kind == "create", times=None)
    configure(Place.on(minio, bucket, wire.endpoint_url))
    findings = told()
    assert problems(findings.values()) == ["conditional create" if is_proved else "create"]
    assert keys_of(minio.boto3_client(), bucket) == []


def test_a_server_that_echoes_what_it_was_sent_gets_no_secret_into_the_findings(
    configure: Configure,
) -> None:
    def echo(request: BaseHTTPRequestHandler) -> Any:
        headers = f"<Echo>{request.headers}{SECRET}</Echo>"
        return s3_error(403, "SignatureDoesNotMatch", headers)

    with answering(echo) as url:
        address = url.replace("http://", "http://user:" + "password@")
        configure(Place("a-bucket", address, "AKIDFORTESTS", SECRET), AWS_SESSION_TOKEN=TOKEN)
        findings = told(SECRET, TOKEN, "password", "AKIDFORTESTS")
    assert problems(findings.values()) == ["sign-in"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_the_machine_is_gone_through(
    scheme: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    place = Place("a-bucket", f"{scheme}://bucket.example", "AKIDFORTESTS", SECRET)
    configure(place, **{f"{scheme.upper()}_PROXY": nobody})
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    findings = told(SECRET)
    assert f"through the proxy {nobody}" in findings["endpoint"].found
    assert problems(findings.values()) == ["server"]
