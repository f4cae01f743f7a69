"""What goes wrong with a bucket, each its own clear error, quickly, and never a wrong "absent"."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import logging
import select
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    BucketNotFoundError,
    ConditionalWritesUnsupportedError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
)
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
from tests.support import servers
from tests.support.s3_store import Answer, Place, answering, s3_error
from tests.support.servers import Server

SECRET = "WrongSecretThatMustNeverBeSeen/+1234567890"
TOKEN = "SessionTokenThatMustNeverBeSeen//++=="


def told(error: BaseException) -> Iterator[str]:
    """All that an error, its causes and its contexts could show to anybody."""
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        exception = waiting.pop()
        seen.append(exception)
        yield from (str(exception), repr(exception), repr(exception.args), repr(vars(exception)))
        yield from getattr(exception, "__notes__", [])
        linked = (exception.__cause__, exception.__context__)
        waiting += [link for link in linked if link is not None and link not in seen]


def assert_discreet(error: BaseException, *secrets: str) -> None:
    for text in told(error):
        for secret in secrets:
            assert secret not in text


def every_error(memory: AgentMemory) -> list[AMFSError]:
    """The errors of reading a new memory, a version, a history, a listing, and of writing."""
    calls: list[Callable[[], object]] = [
        lambda: memory.read("e", "k"),
        lambda: memory.read("e", "k", version=1),
        lambda: memory.history("e", "k"),
        memory.list,
        memory.verify,
        lambda: memory.write("e", "k", 1),
        lambda: memory.update("e", "k", lambda _: 1),
        lambda: memory.delete("e", "k"),
        lambda: memory.purge("e", "k"),
    ]
    errors: list[AMFSError] = []
    for call in calls:
        with pytest.raises(AMFSError) as caught:
            call()
        errors.append(caught.value)
    health = memory.health()
    assert not health.ok
    assert health.error is not None
    return [*errors, health.error]


def assert_all(errors: list[AMFSError], kind: type[AMFSError], *words: str) -> None:
    for error in errors:
        assert isinstance(error, kind), repr(error)
        for word in words:
            assert word in str(error)
        assert "\n" not in str(error)
        assert error.__cause__ is not None


# --- real servers --------------------------------------------------------------------------------


def test_an_absent_bucket_is_named_with_its_endpoint_and_the_hint(s3_server: Server) -> None:
    place = Place.on(s3_server, "no-such-bucket-here")
    with place.memory() as memory:
        errors = every_error(memory)
    assert_all(
        errors, BucketNotFoundError, "'no-such-bucket-here'", s3_server.endpoint_url, "s3 mb"
    )


def test_a_bucket_that_is_removed_is_never_an_absent_memory(s3_server: Server) -> None:
    bucket = s3_server.new_bucket()
    with Place.on(s3_server, bucket).memory() as memory:
        assert memory.read("e", "k") is None
        client = s3_server.boto3_client()
        client.delete_bucket(Bucket=bucket)
        client.close()
        with pytest.raises(BucketNotFoundError):
            memory.read("e", "k")
        with pytest.raises(BucketNotFoundError):
            memory.read("e", "k", version=1)


def test_a_wrong_secret_key_is_reported_as_wrong(
    s3_server: Server, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG, "amfs"),
        Place.on(s3_server, bucket).memory(aws_secret_access_key=SECRET) as memory,
    ):
        errors = every_error(memory)
        assert SECRET not in repr(memory)
    assert_all(errors, PermissionDeniedError, "AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")
    for error in errors:
        assert_discreet(error, SECRET)
    assert SECRET not in caplog.text


def test_an_unknown_access_key_id_is_reported_as_unknown(s3_server: Server, bucket: str) -> None:
    options: dict[str, Any] = {
        "aws_access_key_id": "AKIANOBODYKNOWSTHIS",
        "aws_secret_access_key": SECRET,
    }
    with Place.on(s3_server, bucket).memory(**options) as memory:
        errors = every_error(memory)
    assert_all(errors, PermissionDeniedError, "access key id is unknown", "AWS_ACCESS_KEY_ID")
    for error in errors:
        assert_discreet(error, SECRET)


@pytest.fixture(scope="module")
def european_minio() -> Iterator[Server]:
    """A MinIO that insists on its region."""
    if not servers.locate("minio"):
        pytest.skip("NOT COVERED: MinIO can't be had, which would refuse a wrong region")
    settings = {**servers.MINIO.settings, "MINIO_SITE_REGION": "eu-west-1"}
    program = servers.Program(
        "minio", servers.MINIO.binary, servers.MINIO.arguments,
        servers.MINIO.access_key_variable, servers.MINIO.secret_key_variable, settings,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "REGION", "eu-west-1")
        with servers.running(program) as server:
            yield server


def test_a_wrong_region_names_the_right_one(european_minio: Server) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "REGION", "eu-west-1")
        bucket = european_minio.new_bucket()
    place = Place.on(european_minio, bucket)
    with place.memory(region_name="us-east-1") as memory:
        errors = every_error(memory)
    assert_all(errors, ConfigurationError, "another region", "set region_name to 'eu-west-1'")
    with place.memory(region_name="eu-west-1") as memory:
        memory.write("e", "k", 1)


READ_ONLY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": ["arn:aws:s3:::*"],
        }
    ],
}


def administration(server: Server) -> MinioAdmin:
    return MinioAdmin(
        endpoint=server.endpoint_url.removeprefix("http://"),
        credentials=StaticProvider(server.access_key, server.secret_key),
        secure=False,
    )


@pytest.fixture
def reader_keys(minio: Server, tmp_path: Path) -> tuple[str, str]:
    """The keys of a MinIO user who may only read."""
    if minio.name != "minio":
        pytest.skip("NOT COVERED: only MinIO has users with policies here")
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(READ_ONLY))
    admin = administration(minio)
    admin.policy_add("only-reads", str(policy))
    admin.user_add("reader", "reader-secret-key")
    with contextlib.suppress(Exception):  # attached by the test before this one
        admin.attach_policy(["only-reads"], "reader")
    return "reader", "reader-secret-key"


def test_a_read_only_user_reads_and_is_refused_writes(
    minio: Server, reader_keys: tuple[str, str]
) -> None:
    bucket = minio.new_bucket()
    with Place.on(minio, bucket).memory() as owner:
        written = owner.write("e", "k", 1)
    place = Place(bucket, minio.endpoint_url, *reader_keys)
    with place.memory() as memory:
        assert memory.read("e", "k") == written
        assert memory.list() == [written]
        calls: list[Callable[[], object]] = [
            lambda: memory.write("e", "k", 2),
            lambda: memory.write("e", "new", 2),
            lambda: memory.delete("e", "k"),
        ]
        for call in calls:
            with pytest.raises(PermissionDeniedError, match=r"no permission.*s3:PutObject") as got:
                call()
            assert_discreet(got.value, reader_keys[1])
    with Place.on(minio, bucket).memory() as owner:
        assert owner.history("e", "k") == [written]


def test_a_user_without_any_permission_is_refused_and_never_told_absent(minio: Server) -> None:
    if minio.name != "minio":
        pytest.skip("NOT COVERED: only MinIO has users with policies here")
    administration(minio).user_add("nobody", "nobody-secret-key")
    place = Place(minio.new_bucket(), minio.endpoint_url, "nobody", "nobody-secret-key")
    with place.memory() as memory:
        assert_all(every_error(memory), PermissionDeniedError, "no permission", "AccessDenied")


# --- canned answers ------------------------------------------------------------------------------


def errors_at(url: str, **options: Any) -> list[AMFSError]:
    place = Place("a-bucket", url, "AKIDFORTESTS", SECRET)
    with place.memory(patience=0.05, **options) as memory:
        return every_error(memory)


def test_a_redirect_to_another_region_says_which() -> None:
    more = (
        "<Region>eu-central-1</Region><Endpoint>a-bucket.s3.eu-central-1.amazonaws.com</Endpoint>"
    )
    answer = s3_error(301, "PermanentRedirect", more)
    with answering(lambda _: answer) as url:
        errors = errors_at(url)
    assert_all(errors, ConfigurationError, "another region", "region_name")


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "RequestTimeTooSkewed", PermissionDeniedError, "clock is off"),
        (400, "ExpiredToken", PermissionDeniedError, "session token has expired"),
        (400, "InvalidToken", PermissionDeniedError, "session token is not valid"),
        (403, "AccessDenied", PermissionDeniedError, "no permission"),
        (403, "AllAccessDisabled", PermissionDeniedError, "no permission"),
        (404, "NoSuchBucket", BucketNotFoundError, "does not exist"),
        (400, "InvalidArgument", ConfigurationError, "InvalidArgument"),
        (405, "MethodNotAllowed", ConfigurationError, "MethodNotAllowed"),
    ],
)
def test_an_error_code_of_s3_becomes_its_own_error(
    status: int, code: str, kind: type[AMFSError], words: str
) -> None:
    answer = s3_error(status, code)
    with answering(lambda _: answer) as url:
        assert_all(errors_at(url), kind, words)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, "<html>nothing here</html>"),
        Answer(404),
        s3_error(404, "SomethingElse"),
        Answer(404, '{"error": "NoSuchKey is not what this server says"}'),
    ],
    ids=["html", "empty", "code", "json"],
)
def test_a_404_that_does_not_name_the_object_is_never_taken_for_absent(answer: Answer) -> None:
    with answering(lambda _: answer) as url:
        assert_all(errors_at(url), BackendUnavailableError, "404", "endpoint_url")


def test_a_server_error_is_unavailable_after_patience_and_not_absent() -> None:
    answer = s3_error(503, "SlowDown")
    with answering(lambda _: answer) as url:
        assert_all(errors_at(url), BackendUnavailableError, "503")


def test_a_server_that_does_not_implement_the_condition_is_refused() -> None:
    absent, answer = s3_error(404, "NoSuchKey"), s3_error(501, "NotImplemented")
    with (
        answering(lambda request: absent if request.command == "GET" else answer) as url,
        Place("a-bucket", url, "AKIDFORTESTS", SECRET).memory() as memory,
        pytest.raises(ConditionalWritesUnsupportedError, match="If-None-Match"),
    ):
        memory.write("e", "k", 1)


def test_no_secret_that_a_server_echoes_is_shown_anywhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def echo(request: object) -> Answer:
        headers = str(getattr(request, "headers", ""))
        assert TOKEN in headers
        canonical = f"<CanonicalRequest>{headers}\n{SECRET}</CanonicalRequest>"
        return s3_error(403, "SignatureDoesNotMatch", canonical)

    with caplog.at_level(logging.DEBUG, "amfs"), answering(echo) as url:
        errors = errors_at(url, aws_session_token=TOKEN)
    assert_all(errors, PermissionDeniedError, "SignatureDoesNotMatch")
    for error in errors:
        assert_discreet(error, SECRET, TOKEN)
    assert TOKEN not in caplog.text
    assert SECRET not in caplog.text


def test_no_secret_that_a_failing_server_echoes_reaches_the_log_of_the_retries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def echo(request: object) -> Answer:
        return s3_error(500, "InternalError", f"<Echo>{getattr(request, 'headers', '')}</Echo>")

    with caplog.at_level(logging.DEBUG, "amfs"), answering(echo) as url:
        errors = errors_at(url, aws_session_token=TOKEN)
    assert caplog.records
    assert TOKEN not in caplog.text
    for error in errors:
        assert_discreet(error, SECRET, TOKEN)


def test_an_answer_that_is_not_http_is_unavailable() -> None:
    with listening(lambda connection: connection.sendall(b"SSH-2.0-nonsense\r\n")) as url:
        errors = errors_at(url)
    for error in errors:
        # A create that was sent and not answered could have been applied.
        assert isinstance(error, BackendUnavailableError | OutcomeUnknownError)


# --- unreachable ---------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(treat: Callable[[socket.socket], object]) -> Iterator[str]:
    """A TCP server that does `treat` with each connection once something came, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    treat(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address where a connection is neither accepted nor refused: the backlog is full."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            pending = opened.enter_context(socket.socket())
            pending.setblocking(False)
            pending.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def silence() -> Iterator[str]:
    """An address where connections are accepted and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def refusal() -> Iterator[str]:
    """An address where nothing listens."""
    yield f"http://127.0.0.1:{servers.free_port()}"


def test_an_unreachable_endpoint_is_reported_in_under_15_seconds_by_default() -> None:
    def failed(call: Callable[[], object]) -> tuple[AMFSError, float]:
        started = time.monotonic()
        with pytest.raises(AMFSError) as caught:
            call()
        return caught.value, time.monotonic() - started

    with refusal() as nobody, black_hole() as hole, silence() as mute:
        urls = (nobody, hole, mute)
        calls: list[Callable[[], object]] = []
        for url in urls:
            reader, writer = (
                AgentMemory("a", adapter=Place("a-bucket", url, "AKID", SECRET).adapter())
                for _ in range(2)
            )
            calls += [partial(reader.read, "e", "k"), partial(writer.write, "e", "k", 1)]
        # Side by side, so that they take the time of one.
        with ThreadPoolExecutor(len(calls)) as threads:
            results = list(threads.map(failed, calls))
    for (error, seconds), url in zip(results, [url for url in urls for _ in range(2)], strict=True):
        assert type(error) is BackendUnavailableError
        assert url in str(error)
        assert seconds < 15
        assert_discreet(error, SECRET)


def test_a_host_that_does_not_exist_is_unavailable() -> None:
    errors = errors_at("http://no-such-host.invalid:9000")
    assert_all(errors, BackendUnavailableError, "no-such-host.invalid")


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificate of an authority of our own and one that it made."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory = tmp_path_factory.mktemp("tls")
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, signer: str, ca: bool) -> None:
        key = keys[name]
        subject, issuer = (
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
            for common_name in (name, signer)
        )
        local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([local]), critical=False)
            .sign(keys[signer], hashes.SHA256())
        )
        pem = made.public_bytes(serialization.Encoding.PEM)
        (directory / f"{name}.pem").write_bytes(pem)

    names = ("authority", "other", "server", "lonely")
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in names}
    certificate("authority", "authority", ca=True)
    certificate("other", "other", ca=True)
    certificate("server", "authority", ca=False)
    certificate("lonely", "lonely", ca=False)
    for name, key in keys.items():
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (directory / f"{name}.key").write_bytes(pem)
    return directory


@contextlib.contextmanager
def tls_in_front_of(server: Server, directory: Path, name: str = "server") -> Iterator[str]:
    """A TLS address that leads to the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    host, port = server.endpoint_url.removeprefix("http://").split(":")

    def relay(raw: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(raw, server_side=True) as outside,
            socket.create_connection((host, int(port))) as inside,
        ):
            while True:
                ready, _, _ = select.select([outside, inside], [], [])
                for source, other in ((outside, inside), (inside, outside)):
                    if source in ready:
                        data = source.recv(65536)
                        while isinstance(source, ssl.SSLSocket) and source.pending():
                            data += source.recv(65536)
                        if not data:
                            return
                        other.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=relay, args=(raw,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_https_to_a_port_without_tls_is_reported_as_such(s3_server: Server, bucket: str) -> None:
    url = s3_server.endpoint_url.replace("http://", "https://")
    with Place.on(s3_server, bucket, url).memory() as memory:
        assert_all(every_error(memory), ConfigurationError, "TLS", "https")


@pytest.mark.parametrize("name", ["server", "lonely"])
def test_a_certificate_that_nobody_vouches_for_is_refused_with_a_hint(
    s3_server: Server, bucket: str, authority: Path, name: str
) -> None:
    with (
        tls_in_front_of(s3_server, authority, name) as url,
        Place.on(s3_server, bucket, url).memory() as memory,
    ):
        assert_all(every_error(memory), ConfigurationError, "TLS", "AWS_CA_BUNDLE")


@pytest.mark.parametrize("bundle", [["authority"], ["other", "authority"]], ids=["one", "two"])
def test_a_private_authority_is_trusted_by_aws_ca_bundle(
    s3_server: Server,
    bucket: str,
    authority: Path,
    bundle: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = authority / "bundle.pem"
    together.write_text("".join((authority / f"{name}.pem").read_text() for name in bundle))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(together))
    with (
        tls_in_front_of(s3_server, authority) as url,
        Place.on(s3_server, bucket, url).memory() as memory,
    ):
        written = memory.write("e", "k", 1)
        assert memory.history("e", "k") == [written]


def test_a_ca_bundle_that_is_not_there_is_named(
    s3_server: Server,
    bucket: str,
    tmp_path: Path,
    authority: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = tmp_path / "no-bundle.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", str(missing))
    with (
        tls_in_front_of(s3_server, authority) as url,
        Place.on(s3_server, bucket, url).memory() as memory,
    ):
        for error in every_error(memory):
            assert type(error) is ConfigurationError
            assert str(missing) in str(error)


# --- settings ------------------------------------------------------------------------------------


def test_without_any_credentials_the_error_says_where_to_put_them() -> None:
    adapter = S3Adapter("a-bucket", endpoint_url="http://127.0.0.1:1")
    for error in every_error(AgentMemory("a", adapter=adapter)):
        assert type(error) is ConfigurationError
        assert "AWS_ACCESS_KEY_ID" in str(error)
        assert "'a-bucket'" in str(error)


def test_half_of_the_credentials_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDFORTESTS")
    adapter = S3Adapter("a-bucket", endpoint_url="http://127.0.0.1:1")
    for error in every_error(AgentMemory("a", adapter=adapter)):
        assert type(error) is ConfigurationError
        assert "both" in str(error)


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_an_unknown_profile_is_named(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "variable":
        monkeypatch.setenv("AWS_PROFILE", "nobodys-profile")
    adapter = S3Adapter(
        "a-bucket",
        endpoint_url="http://127.0.0.1:1",
        profile_name="nobodys-profile" if way == "argument" else None,
    )
    for error in every_error(AgentMemory("a", adapter=adapter)):
        assert type(error) is ConfigurationError
        assert "nobodys-profile" in str(error)


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "localhost:9000", "ftp://x", "http://"])
def test_an_endpoint_that_is_not_a_url_is_a_configuration_error(url: str) -> None:
    for error in errors_at(url):
        assert type(error) is ConfigurationError, repr(error)
        assert url in str(error)


@pytest.mark.parametrize("name", ["s3://bucket", "a", "", "has space", "with/slash", "-dash"])
def test_a_name_that_no_bucket_can_have_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigurationError, match="bucket"):
        S3Adapter(name)
