"""How the adapter comes to its credentials and its endpoint, and how long that may take."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import certifi
import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    CircuitOpenError,
    ConfigurationError,
    PermissionDeniedError,
)
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
from amfs_s3.background import Background, StillAtWork
from tests.support.s3_store import Answer, answering, s3_error
from tests.support.servers import Server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("AMFS_S3", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def adapter(server: Server, bucket: str, **options: object) -> S3Adapter:
    return S3Adapter(
        bucket,
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        **options,  # type: ignore[arg-type]
    )


def write_credentials(home: Path, key: str, secret: str) -> None:
    (home / "credentials").write_text(
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    )


def credential_process(home: Path, server: Server, command: str) -> None:
    """A profile whose credentials a program prints, after a command of the shell."""
    script = home / "process"
    script.write_text(
        f"#!/bin/sh\n{command}\n"
        f'echo \'{{"Version": 1, "AccessKeyId": "{server.access_key}", '
        f'"SecretAccessKey": "{server.secret_key}"}}\'\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (home / "config").write_text(f"[default]\ncredential_process = {script}\n")


# -- a process that hangs --------------------------------------------------------------------


def test_a_hanging_credential_process_is_waited_for_as_long_as_patience_says(
    home: Path, minio: Server
) -> None:
    credential_process(home, minio, "while [ ! -e go ]; do sleep 0.05; done")
    bucket = minio.new_bucket()
    memory = AgentMemory("a", adapter=adapter(minio, bucket, connect_timeout=1.0), patience=2)
    started = time.monotonic()
    with pytest.raises(BackendUnavailableError, match="finding its credentials takes longer"):
        memory.read("e", "k")
    assert time.monotonic() - started < 30  # the process would hang for ever
    (home / "go").touch()
    deadline = time.monotonic() + 60
    while True:  # the process goes on in the background, and whoever comes later finds its answer
        try:
            memory.write("e", "k", 1)
            break
        except (BackendUnavailableError, CircuitOpenError):
            assert time.monotonic() < deadline
    assert memory.read("e", "k")


def test_while_it_hangs_ctrl_c_ends_the_call(home: Path, minio: Server) -> None:
    credential_process(home, minio, "touch begun; sleep 15")
    memory = AgentMemory("a", adapter=adapter(minio, minio.new_bucket(), connect_timeout=30.0))

    def interrupt() -> None:
        while not (home / "begun").exists():
            time.sleep(0.02)  # a process in between tells nobody that it has begun
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        memory.read("e", "k")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("seconds_left", [600, 30])
def test_a_refresh_that_hangs_holds_nobody_up_while_the_credentials_are_good(
    home: Path, minio: Server, seconds_left: int
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=seconds_left)
    script = home / "process"
    script.write_text(
        "#!/bin/sh\nif [ -e twice ]; then sleep 20; fi\n"
        "if [ -e once ]; then touch twice; fi\ntouch once\n"  # when it is resolved, two times
        f'echo \'{{"Version": 1, "AccessKeyId": "{minio.access_key}", '
        f'"SecretAccessKey": "{minio.secret_key}", "Expiration": "{ends.isoformat()}"}}\'\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (home / "config").write_text(f"[default]\ncredential_process = {script}\n")
    store = adapter(minio, minio.new_bucket(), connect_timeout=1.0)
    started = time.monotonic()
    if seconds_left == 600:
        assert store.get("x") is None and store.get("y") is None
    else:
        with pytest.raises(BackendUnavailableError, match="take long to be refreshed"):
            store.get("x")
            store.get("y")
    assert time.monotonic() - started < 10


def test_a_refresh_that_hangs_is_waited_for_once_and_not_by_every_request(
    home: Path, minio: Server
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=600)
    script = home / "process"
    script.write_text(
        "#!/bin/sh\nif [ -e twice ]; then sleep 60; fi\n"
        "if [ -e once ]; then touch twice; fi\ntouch once\n"  # when it is resolved, two times
        f'echo \'{{"Version": 1, "AccessKeyId": "{minio.access_key}", '
        f'"SecretAccessKey": "{minio.secret_key}", "Expiration": "{ends.isoformat()}"}}\'\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (home / "config").write_text(f"[default]\ncredential_process = {script}\n")
    store = adapter(minio, minio.new_bucket(), connect_timeout=2.0)
    started = time.monotonic()
    assert [store.get(f"x{number}") for number in range(12)] == [None] * 12
    assert time.monotonic() - started < 15  # 2 seconds for each would be 24


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("/nowhere/tool --quick", "No such file or directory: '/nowhere/tool'"),
        ("/bin/echo hello", "Expecting value"),
        ("/bin/echo [1]", "'list' object"),
        ("'/bin/echo", "No closing quotation"),
    ],
)
def test_a_credential_process_that_cannot_be_used_is_an_error_that_names_it(
    home: Path, command: str, problem: str
) -> None:
    (home / "config").write_text(f"[default]\ncredential_process = {command}\n")
    store = S3Adapter("a-bucket", endpoint_url="http://127.0.0.1:9", region_name="us-east-1")
    with pytest.raises(ConfigurationError, match="check credential_process") as raised:
        store.get("x")
    assert problem in str(raised.value) and "endpoint_url" not in str(raised.value)


def test_a_doctor_waits_longer_for_credentials_than_a_call_does(home: Path, minio: Server) -> None:
    credential_process(home, minio, "sleep 1")
    checks = adapter(minio, minio.new_bucket(), connect_timeout=0.1).checks()
    assert "credential_process" in next(checks).look().found


# -- credentials that are renewed ------------------------------------------------------------


def test_credentials_renewed_in_the_shared_file_are_taken_without_a_restart(
    home: Path, minio: Server
) -> None:
    write_credentials(home, minio.access_key, "a-secret-that-has-expired")
    memory = AgentMemory("a", adapter=adapter(minio, minio.new_bucket()), patience=1)
    for _ in range(2):
        with pytest.raises(PermissionDeniedError, match="secret access key is wrong"):
            memory.write("e", "k", 1)
    write_credentials(home, minio.access_key, minio.secret_key)
    assert memory.write("e", "k", 1).version == 1
    assert [entry.key for entry in memory.list()] == ["k"]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "InvalidToken"])
def test_a_listing_goes_on_with_renewed_credentials(home: Path, code: str) -> None:
    seen: list[str] = []

    def script(request: BaseHTTPRequestHandler) -> Answer:
        key = request.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
        seen.append(key)
        if key == "old":
            write_credentials(home, "new", "secret")
            return s3_error(403, code)
        return Answer(
            200,
            "<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>"
            "</ListBucketResult>",
        )

    write_credentials(home, "old", "secret")
    with answering(script) as address:
        store = S3Adapter("bucket", endpoint_url=address, region_name="us-east-1")
        assert list(store.list("")) == []
        assert list(store.list("")) == []
    assert seen == ["old", "new", "new"]


def test_credentials_given_as_arguments_are_not_looked_for_elsewhere(home: Path) -> None:
    write_credentials(home, "other", "secret")
    requests: list[str] = []

    def script(request: BaseHTTPRequestHandler) -> Answer:
        requests.append(request.headers["Authorization"])
        return s3_error(403, "InvalidAccessKeyId")

    with answering(script) as address:
        store = S3Adapter(
            "bucket",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="mine",
            aws_secret_access_key="secret",
        )
        with pytest.raises(PermissionDeniedError):
            store.get("default/x")
    assert len(requests) == 1 and "Credential=mine/" in requests[0]


# -- text that no header carries -------------------------------------------------------------


@pytest.mark.parametrize("value", ["us-east-1\n", "us-east-1\r\n", "a\x00b", "eu west\t"])
def test_a_region_with_a_line_break_is_refused_in_one_line(
    home: Path, minio: Server, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\0" in value:  # no variable can hold it, an argument can
        with pytest.raises(ConfigurationError, match="region_name has a line break"):
            S3Adapter("bucket", region_name=value)
        return
    write_credentials(home, minio.access_key, minio.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", value)
    store = S3Adapter("a-bucket", endpoint_url=minio.endpoint_url)
    with pytest.raises(ConfigurationError) as raised:
        store.get("x")
    assert "egion" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token"])
@pytest.mark.parametrize("value", ["sécret", "ключ", "a\u200b"])
def test_credentials_that_are_not_ascii_are_refused_and_not_shown(
    home: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header carries none of it: the client's own error would show the text, and be bare."""
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"} | {f"aws_{name}": value}
    with pytest.raises(ConfigurationError, match=f"aws_{name} has a character that is not ASCII"):
        S3Adapter("a-bucket", **keys)  # type: ignore[arg-type]
    for key, text in keys.items():
        monkeypatch.setenv(key.upper(), text)
    store = S3Adapter("a-bucket", endpoint_url="http://127.0.0.1:9", region_name="us-east-1")
    with pytest.raises(ConfigurationError, match="is not ASCII") as raised:
        store.create("x", b"")
    assert value not in str(raised.value)


def test_a_profile_with_a_line_break_is_refused_in_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "default\n")
    with pytest.raises(ConfigurationError, match=r"AWS_PROFILE.*line break") as raised:
        S3Adapter("a-bucket", endpoint_url="http://127.0.0.1:9").get("x")
    assert "\n" not in str(raised.value)


def test_a_file_of_certificates_may_have_any_name(
    home: Path, minio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = home / "autorité.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    write_credentials(home, minio.access_key, minio.secret_key)
    assert adapter(minio, minio.new_bucket()).get("x") is None


def test_with_fips_the_endpoint_of_every_region_is_one_of_the_region(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_credentials(home, "key", "secret")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    for region in ("us-east-1", "us-west-2"):
        place = S3Adapter("my-bucket", region_name=region).location
        assert place == f"https://s3-fips.{region}.amazonaws.com/my-bucket/amfs/"


def test_an_endpoint_of_private_link_may_serve_a_bucket_named_bucket(home: Path) -> None:
    write_credentials(home, "key", "secret")
    url = "https://bucket.vpce-1a2b-5e6f.s3.us-east-1.vpce.amazonaws.com"
    assert S3Adapter("bucket", endpoint_url=url).location == f"{url}/bucket/amfs/"
    with pytest.raises(ConfigurationError, match="contains the bucket"):
        S3Adapter("mine", endpoint_url=url.replace("bucket.", "mine.bucket.")).get("x")


@pytest.mark.parametrize(
    "url",
    [
        *("https://my-bucket.s3.eu-west-1.amazonaws.com", "https://s3.amazonaws.com/my-bucket"),
        *("https://my-bucket.s3.amazonaws.com/", "https://s3.eu-west-1.amazonaws.com/amfs/"),
    ],
)
def test_an_endpoint_of_aws_that_contains_the_bucket_is_refused_by_name(
    home: Path, url: str
) -> None:
    write_credentials(home, "key", "secret")
    store = S3Adapter("my-bucket", endpoint_url=url, region_name="eu-west-1")
    with pytest.raises(ConfigurationError, match="contains the bucket; give the URL of the"):
        store.create("default/x", b"")


def test_an_endpoint_of_a_real_server_that_contains_the_bucket_is_refused(
    home: Path, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    bucket = s3_server.new_bucket()
    write_credentials(home, s3_server.access_key, s3_server.secret_key)
    doubled = S3Adapter(
        bucket, endpoint_url=f"{s3_server.endpoint_url}/{bucket}", region_name="us-east-1"
    )
    memory = AgentMemory("a", adapter=doubled, patience=1)
    with pytest.raises(ConfigurationError, match="bucket a part of endpoint_url already"):
        memory.write("e", "k", 1)
    assert "Contents" not in s3_server.boto3_client().list_objects_v2(Bucket=bucket)
    with pytest.raises(AMFSError):
        memory.list()


def test_a_proof_by_a_release_that_did_not_list_is_made_again(
    home: Path, minio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    bucket = minio.new_bucket()
    write_credentials(home, minio.access_key, minio.secret_key)
    url = f"{minio.endpoint_url}/{bucket}"
    marks = home / "cache" / "amfs" / "conditional-writes"
    marks.mkdir(parents=True)
    (marks / hashlib.sha256(f"{url}\n{bucket}".encode()).hexdigest()[:32]).touch()
    store = S3Adapter(bucket, endpoint_url=url, region_name="us-east-1")
    with pytest.raises(ConfigurationError, match="bucket a part of endpoint_url already"):
        store.create("x", b"")


def test_a_bucket_with_a_default_retention_takes_objects_with_a_checksum(
    home: Path, minio: Server
) -> None:
    client = minio.boto3_client()
    bucket = f"locked-{os.getpid()}-{time.time_ns()}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    )
    write_credentials(home, minio.access_key, minio.secret_key)
    memory = AgentMemory("a", adapter=adapter(minio, bucket, content_checksum=True))
    memory.write("e", "k", 1)
    assert memory.update("e", "k", lambda old: old + 1).version == 2
    assert [entry.value for entry in memory.list()] == [2]


def test_a_bucket_named_like_the_first_part_of_another_host_is_fine(
    home: Path, minio: Server
) -> None:
    write_credentials(home, minio.access_key, minio.secret_key)
    store = S3Adapter("minio", endpoint_url="http://minio.example.com:9000", region_name="x")
    assert store.location == "http://minio.example.com:9000/minio/amfs/"


# -- work in the background ------------------------------------------------------------------


def test_every_caller_gets_the_result_of_one_call() -> None:
    begun, go = threading.Event(), threading.Event()
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        begun.set()
        go.wait(30)
        return "done"

    background = Background(work)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(background.result(30))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    begun.wait(30)
    with pytest.raises(StillAtWork):
        background.result(0.01)
    go.set()
    for thread in threads:
        thread.join()
    assert answers == ["done"] * 8 and calls == [1]


def test_a_failure_is_told_to_everybody_and_not_remembered() -> None:
    outcomes: Iterator[object] = iter([ConfigurationError("no"), "yes"])

    def work() -> object:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    background = Background(work)
    with pytest.raises(ConfigurationError, match="no"):
        background.result(30)
    assert background.result(30) == "yes"


def test_where_no_thread_can_be_started_the_caller_does_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import _thread

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert Background(threading.get_ident).result(30) == threading.get_ident()


def test_an_answer_that_nobody_waited_for_is_not_given_to_a_later_caller() -> None:
    """Credentials that a process found an hour ago may have ended since."""
    numbers = iter(range(10))
    ended = threading.Event()

    def work() -> int:
        number = next(numbers)
        ended.wait(30)
        return number

    background = Background(work)
    with pytest.raises(StillAtWork):
        background.result(0.01)
    ended.set()
    deadline = time.monotonic() + 30
    while not background._under_way["now"].is_done:
        assert time.monotonic() < deadline
    assert background.result(30) == 1
