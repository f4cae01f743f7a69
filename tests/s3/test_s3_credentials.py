"""Credentials, endpoint and region come from where every AWS user keeps them, and are refreshed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from amfs_core.errors import AMFSError, PermissionDeniedError
from amfs_core.memory import AgentMemory
from amfs_s3 import S3Adapter
from tests.support.proxy import FaultProxy
from tests.support.servers import Server


class Home:
    """The AWS files and variables of a user."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory, self._patch = directory, patch
        patch.setenv("AWS_CONFIG_FILE", str(directory / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "credentials"))

    def variables(self, **values: str) -> None:
        for name, value in values.items():
            self._patch.setenv(name, value)

    def config(self, section: str, **values: str) -> None:
        self._write("config", section, values)

    def credentials(self, section: str, server: Server) -> None:
        keys = {
            "aws_access_key_id": server.access_key,
            "aws_secret_access_key": server.secret_key,
        }
        self._write("credentials", section, keys)

    def _write(self, name: str, section: str, values: dict[str, str]) -> None:
        lines = [f"[{section}]", *(f"{key} = {value}" for key, value in values.items()), ""]
        with (self.directory / name).open("a") as file:
            file.write("\n".join(lines))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return Home(tmp_path, monkeypatch)


def use(adapter: S3Adapter) -> None:
    """Write and read, so that every kind of request is signed."""
    with AgentMemory("a", adapter=adapter, patience=1.0, owns_adapter=True) as memory:
        written = memory.write("e", "k", 1)
        assert memory.read("e", "k") == written
        assert memory.list() == [written]


# --- where they come from ------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_endpoint_and_keys_come_from_variables(home: Home, minio: Server, variable: str) -> None:
    home.variables(
        AWS_ACCESS_KEY_ID=minio.access_key,
        AWS_SECRET_ACCESS_KEY=minio.secret_key,
        **{variable: minio.endpoint_url},
    )
    use(S3Adapter(minio.new_bucket()))


def test_the_endpoint_of_s3_wins_over_that_of_all_services(home: Home, minio: Server) -> None:
    home.variables(
        AWS_ACCESS_KEY_ID=minio.access_key,
        AWS_SECRET_ACCESS_KEY=minio.secret_key,
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_ENDPOINT_URL_S3=minio.endpoint_url,
    )
    use(S3Adapter(minio.new_bucket()))


def test_the_arguments_win_over_the_variables(home: Home, minio: Server) -> None:
    home.variables(
        AWS_ACCESS_KEY_ID="wrong",
        AWS_SECRET_ACCESS_KEY="wrong",
        AWS_SESSION_TOKEN="wrong",
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_REGION="eu-west-9",
    )
    use(
        S3Adapter(
            minio.new_bucket(),
            endpoint_url=minio.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=minio.access_key,
            aws_secret_access_key=minio.secret_key,
        )
    )


@pytest.mark.parametrize("way", ["default", "AWS_PROFILE", "argument"])
def test_keys_endpoint_and_region_come_from_a_profile(home: Home, minio: Server, way: str) -> None:
    bucket = minio.new_bucket()
    name = "default" if way == "default" else "mine"
    home.credentials(name, minio)
    section = name if name == "default" else f"profile {name}"
    home.config(section, endpoint_url=minio.endpoint_url, region="eu-north-1")
    if way == "AWS_PROFILE":
        home.variables(AWS_PROFILE=name)
    adapter = S3Adapter(bucket, profile_name=name if way == "argument" else None)
    assert adapter._connection().endpoint.region == "eu-north-1"
    use(adapter)


def test_an_endpoint_in_the_services_section_of_the_shared_file_is_used(
    home: Home, minio: Server
) -> None:
    home.credentials("default", minio)
    home.config("default", services="mine", region="us-east-1")
    home.config("services mine", s3=f"\n  endpoint_url = {minio.endpoint_url}")
    use(S3Adapter(minio.new_bucket()))


def test_a_session_token_is_sent(home: Home, minio: Server) -> None:
    if minio.name != "minio":
        pytest.skip("NOT COVERED: only MinIO has a token service here")
    session = boto3.session.Session()
    sts = session.client(
        "sts",
        endpoint_url=minio.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=minio.access_key,
        aws_secret_access_key=minio.secret_key,
    )
    credentials = sts.assume_role(RoleArn="arn:xxx:xxx:xxx:xxxx", RoleSessionName="any")[
        "Credentials"
    ]
    sts.close()
    home.variables(
        AWS_ACCESS_KEY_ID=credentials["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=credentials["SecretAccessKey"],
        AWS_SESSION_TOKEN=credentials["SessionToken"],
    )
    use(S3Adapter(minio.new_bucket(), endpoint_url=minio.endpoint_url))
    home.variables(AWS_SESSION_TOKEN="not-that-token")
    with pytest.raises(PermissionDeniedError) as caught:
        use(S3Adapter(minio.new_bucket(), endpoint_url=minio.endpoint_url))
    assert credentials["SecretAccessKey"] not in repr(caught.value)


def test_server_side_encryption_is_asked_for_in_every_create(minio: Server) -> None:
    with FaultProxy(minio.endpoint_url) as proxy:
        adapter = S3Adapter(
            minio.new_bucket(),
            endpoint_url=proxy.endpoint_url,
            aws_access_key_id=minio.access_key,
            aws_secret_access_key=minio.secret_key,
            server_side_encryption="AES256",
        )
        # This MinIO has no key service: that it says so shows that it was asked.
        with (
            AgentMemory("a", adapter=adapter, owns_adapter=True) as memory,
            pytest.raises(AMFSError, match="encrypt"),
        ):
            memory.write("e", "k", 1)


# --- refreshing ----------------------------------------------------------------------------------

PROCESS = """
import json, pathlib, sys
here = pathlib.Path(sys.argv[1])
with (here / "calls").open("a") as calls:
    calls.write("x")
print((here / "answer.json").read_text())
"""


class CredentialProcess:
    """An external process that gives credentials; how often it was asked; what it answers now."""

    def __init__(self, home: Home) -> None:
        self._directory = home.directory
        (home.directory / "process.py").write_text(PROCESS)
        home.config(
            "default",
            credential_process=f"{sys.executable} {home.directory / 'process.py'} {home.directory}",
        )

    def answer(self, access_key: str, secret_key: str, expires_in: timedelta) -> None:
        fields = {
            "Version": 1,
            "AccessKeyId": access_key,
            "SecretAccessKey": secret_key,
            "Expiration": (datetime.now(UTC) + expires_in).isoformat(),
        }
        (self._directory / "answer.json").write_text(json.dumps(fields))

    def fail(self) -> None:
        (self._directory / "answer.json").unlink()

    @property
    def calls(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return len((self._directory / "calls").read_text())
        return 0


@pytest.fixture
def process(home: Home) -> CredentialProcess:
    return CredentialProcess(home)


def test_credentials_that_last_are_asked_for_once(
    process: CredentialProcess, minio: Server
) -> None:
    process.answer(minio.access_key, minio.secret_key, timedelta(hours=2))
    adapter = S3Adapter(minio.new_bucket(), endpoint_url=minio.endpoint_url)
    with AgentMemory("a", adapter=adapter, owns_adapter=True) as memory:
        for number in range(10):
            memory.write("e", "k", number)
    assert process.calls == 1


@pytest.fixture
def user(minio: Server) -> Iterator[tuple[str, str]]:
    """A MinIO user who is removed after the test at the latest."""
    if minio.name != "minio":
        pytest.skip("NOT COVERED: only MinIO has users here")
    admin = administration(minio)
    admin.user_add("temporary", "temporary-secret")
    admin.attach_policy(["readwrite"], "temporary")
    yield "temporary", "temporary-secret"
    with contextlib.suppress(Exception):
        admin.user_remove("temporary")


def administration(server: Server) -> MinioAdmin:
    return MinioAdmin(
        endpoint=server.endpoint_url.removeprefix("http://"),
        credentials=StaticProvider(server.access_key, server.secret_key),
        secure=False,
    )


def test_credentials_about_to_expire_are_refreshed_and_the_new_ones_used(
    process: CredentialProcess, minio: Server, user: tuple[str, str]
) -> None:
    process.answer(*user, timedelta(minutes=5))  # boto3 refreshes from 15 minutes before the end
    adapter = S3Adapter(minio.new_bucket(), endpoint_url=minio.endpoint_url)
    with AgentMemory("a", adapter=adapter, owns_adapter=True) as memory:
        memory.write("e", "k", "as the user")
        before = process.calls
        memory.write("e", "k", "as the user")
        assert process.calls > before
        administration(minio).user_remove(user[0])
        process.answer(minio.access_key, minio.secret_key, timedelta(hours=2))
        memory.write("e", "k", "as another")
        settled = process.calls
        for _ in range(5):
            memory.write("e", "k", "still as another")
        assert process.calls == settled
        assert len(memory.history("e", "k")) == 8


def test_credentials_that_cannot_be_refreshed_are_an_error_of_amfs(
    process: CredentialProcess, minio: Server
) -> None:
    process.answer(minio.access_key, minio.secret_key, timedelta(minutes=5))
    adapter = S3Adapter(minio.new_bucket(), endpoint_url=minio.endpoint_url)
    with AgentMemory("a", adapter=adapter, patience=0.2, owns_adapter=True) as memory:
        memory.write("e", "k", 1)
        process.fail()
        calls: list[Any] = [
            lambda: memory.write("e", "k", 2),
            lambda: memory.read("e", "k"),
            memory.list,
        ]
        for call in calls:
            with pytest.raises(PermissionDeniedError, match="credential") as caught:
                call()
            assert minio.secret_key not in repr(caught.value)
        process.answer(minio.access_key, minio.secret_key, timedelta(hours=2))
        assert memory.write("e", "k", 2).version == 2


def test_a_process_that_fails_at_once_is_an_error_that_names_it(
    process: CredentialProcess, minio: Server
) -> None:
    adapter = S3Adapter("a-bucket", endpoint_url=minio.endpoint_url)
    with pytest.raises(PermissionDeniedError, match="credentials for bucket 'a-bucket'"):
        use(adapter)
