"""`amfs doctor` on directories and adapters of third parties, and what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from amfs import AgentMemory
from amfs.config import places, settings
from amfs.doctor import diagnose
from amfs.doctor.check_settings import VARIABLES
from amfs_core.doctor import Check, Diagnosis, Trial, examine, ok
from amfs_core.errors import PermissionDeniedError
from amfs_core.storage import ObjectInfo
from amfs_core.testing.model import ModelAdapter
from amfs_local import LocalAdapter, checks
from amfs_sqlite import SqliteAdapter
from tests.cli.test_cli import empty_surroundings, on_a_terminal, refused, run  # noqa: F401
from tests.conftest import NOT_COVERED

TRIAL = (
    *("list", "get", "create", "conditional create", "listing"),
    *("replace", "latency", "delete", "doorbell"),
)
LOCAL = (
    *("configuration", "store", "root", "file system", "space", "writing", "hard links", "locks"),
    *("fsync", "unnamed files", "letter case", *TRIAL, "inotify", "memories"),
)


def by_name(findings: Iterable[Diagnosis]) -> dict[str, Diagnosis]:
    return {finding.name: finding for finding in findings}


def problems(findings: Iterable[Diagnosis]) -> list[str]:
    return [finding.name for finding in findings if finding.verdict == "problem"]


def everything_under(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


# --- a directory ---------------------------------------------------------------------------------


def test_a_directory_is_fine_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    with AgentMemory("a") as memory:
        memory.write("e", "k", 1)
    before = everything_under(tmp_path)
    findings = list(diagnose())
    assert tuple(finding.name for finding in findings) == LOCAL
    assert not problems(findings)
    assert "e/k v1 is intact" in by_name(findings)["memories"].found
    assert everything_under(tmp_path) == before


def test_a_root_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    findings = by_name(diagnose(store=str(tmp_path / "a/b")))
    assert not problems(findings.values())
    assert f"the first write makes it in {tmp_path}" in findings["root"].found
    assert everything_under(tmp_path) == {}


def test_scratch_objects_are_removed_when_the_findings_are_abandoned(tmp_path: Path) -> None:
    findings = diagnose()
    assert (
        next(finding for finding in findings if finding.name == "conditional create").verdict
        == "ok"
    )
    assert everything_under(tmp_path)
    findings.close()
    assert everything_under(tmp_path) == {}


@pytest.mark.parametrize("root", ["file", "file/below/it"])
def test_a_root_that_is_a_file_is_a_problem_and_the_rest_is_skipped(
    tmp_path: Path, root: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    findings = by_name(diagnose(store=root))
    assert problems(findings.values()) == ["root"]
    assert f"{tmp_path}/file is not a directory" in findings["root"].found
    assert findings["memories"].verdict == findings["fsync"].verdict == "skipped"
    assert findings["create"].found == "because of: root"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "amfs-test", str(place)]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip(f"{NOT_COVERED} doctor on a full disk: no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_a_problem(small_disk: Path) -> None:
    store = small_disk / "store"
    store.mkdir()
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    findings = by_name(diagnose(store=str(store)))
    assert {"space", "writing"} <= set(problems(findings.values()))
    assert findings["file system"].verdict == "warning"  # it is in memory
    assert findings["create"].found == "because of: writing"
    assert findings["memories"].verdict == "ok"  # reading is not writing
    assert list(store.iterdir()) == []


@pytest.fixture
def sealed_root(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A root with one memory that this user may only read."""
    is_superuser = os.geteuid() == 0  # whom modes do not keep from writing
    disk = request.getfixturevalue("small_disk") if is_superuser else tmp_path
    root = disk / "store"
    with AgentMemory("a", adapter=LocalAdapter(root)) as memory:
        memory.write("e", "k", 1)
    if is_superuser:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    else:
        root.chmod(0o555)
    yield root
    if not is_superuser:
        root.chmod(0o755)


def test_a_root_that_may_only_be_read_is_a_warning(sealed_root: Path) -> None:
    findings = by_name(diagnose(store=str(sealed_root)))
    assert not problems(findings.values())
    assert findings["writing"].verdict == "warning"
    assert "may only be read" in findings["writing"].found
    assert findings["create"].verdict == "skipped"
    assert findings["list"].verdict == findings["memories"].verdict == "ok"


def test_without_hard_links_it_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    findings = by_name(diagnose())
    assert problems(findings.values()) == ["hard links", "create"]
    assert "ext4" in findings["hard links"].hint


@pytest.mark.parametrize(
    ("line", "verdict", "words"),
    [
        ("server:/x {root} nfs4 rw,relatime 0 0", "warning", "NFSv4 keeps creates exclusive"),
        ("host:/y {root} fuse.sshfs rw 0 0", "warning", "bucket for several machines"),
        ("overlay {root} overlay rw 0 0", "warning", "use a volume"),
        ("/dev/sda1 {root} ext4 rw 0 0", "ok", ""),
    ],
)
def test_a_file_system_is_known_by_its_type(
    line: str, verdict: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "with space"
    root.mkdir()
    table = tmp_path / "mounts"
    here = str(root).replace(" ", "\\040")
    table.write_text(f"/dev/root / ext4 rw 0 0\ngarbage\n{line.format(root=here)}\n")
    monkeypatch.setattr("amfs_core.mounts._TABLE", str(table))
    finding = by_name(diagnose(store=str(root)))["file system"]
    assert finding.verdict == verdict
    assert words in finding.hint
    assert f"mounted at {root}" in finding.found


def test_few_watches_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "limit").write_text("100\n")
    monkeypatch.setattr(checks, "_INOTIFY", str(tmp_path / "limit"))
    finding = by_name(diagnose())["inotify"]
    assert (finding.verdict, finding.found[:9]) == ("warning", "up to 100")


# --- any adapter ---------------------------------------------------------------------------------


def tried(adapter: ModelAdapter) -> dict[str, Diagnosis]:
    return by_name(examine(Trial(adapter).checks()))


def test_an_adapter_without_checks_is_tried_and_left_as_it_was() -> None:
    adapter = ModelAdapter()
    findings = tried(adapter)
    assert tuple(findings) == TRIAL
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert list(adapter.list("")) == []


def test_a_create_that_overwrites_is_a_problem() -> None:
    class Overwrites(ModelAdapter):
        def create(self, key: str, data: bytes) -> bool:
            self.replace(key, data)
            return True

    adapter = Overwrites()
    findings = tried(adapter)
    assert problems(findings.values()) == ["conditional create"]
    assert "overwrite each other" in findings["conditional create"].found
    assert list(adapter.list("")) == []


def test_a_listing_that_comes_late_is_a_problem() -> None:
    class Late(ModelAdapter):
        def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
            return iter(())

    assert problems(tried(Late()).values()) == ["listing"]


def test_an_object_that_may_not_be_deleted_is_named() -> None:
    class Keeps(ModelAdapter):
        def delete(self, key: str) -> None:
            raise PermissionDeniedError("no; ask for it")

    finding = tried(Keeps())["delete"]
    assert finding.verdict == "warning"
    assert "/scratch'" in finding.hint


def test_a_check_that_hangs_or_breaks_is_a_problem_and_the_others_go_on() -> None:
    never = threading.Event()

    def hang() -> Diagnosis:
        never.wait()
        return ok("")

    def crash() -> Diagnosis:
        raise ValueError("with a secret in it")

    names = ("hang", "crash", "follows")
    all_checks = (
        Check("hang", hang, seconds=0.05),
        Check("crash", crash),
        Check("follows", lambda: ok(""), needs=("hang",)),
        Check("goes on", lambda: ok("")),
    )
    findings = by_name(examine(all_checks))
    never.set()
    assert [findings[name].verdict for name in names] == ["problem", "problem", "skipped"]
    assert "ValueError" in findings["crash"].found
    assert "secret" not in findings["crash"].found
    assert findings["goes on"].verdict == "ok"


# --- configuration and memories ------------------------------------------------------------------


def test_a_mistake_in_the_file_is_a_problem_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "amfs.yaml").write_text("namespase: x\n")
    findings = list(diagnose())
    assert problems(findings) == ["configuration"]
    assert "amfs.yaml line 1" in findings[0].found
    (tmp_path / "amfs.yaml").write_text("layers: {primary: {adapter: local, options: {rot: x}}}\n")
    findings = list(diagnose())
    assert problems(findings) == ["store"]
    assert "'rot'" in findings[1].found


def test_every_setting_is_shown_with_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "amfs.yaml"
    file.write_text(
        "namespace: production\nlayers:\n  primary:\n    adapter: local\n"
        "    options:\n      root: there\n      durability: none\n"
    )
    findings = by_name(diagnose())
    assert str(file) in findings["configuration"].found
    for part in (
        "local (amfs.yaml line 4)",
        f"root {tmp_path}/there (amfs.yaml line 6)",
        "'production' (amfs.yaml line 1)",
    ):
        assert part in findings["store"].found
    monkeypatch.setenv("AMFS_ROOT", "elsewhere")
    monkeypatch.setenv("AMFS_NAMESPACE", "staging")
    told = by_name(diagnose())["store"].found
    assert "root elsewhere (AMFS_ROOT)" in told and "'staging' (AMFS_NAMESPACE)" in told
    told = by_name(diagnose(store="third", namespace="mine"))["store"].found
    assert "local at third (--store)" in told and "'mine' (--namespace)" in told


def test_doctor_knows_every_variable_of_the_configuration() -> None:
    source = Path(settings.__file__).read_text() + Path(places.__file__).read_text()
    assert set(VARIABLES) == set(re.findall(r"\bAMFS_[A-Z0-9_]*[A-Z0-9]\b", source))


def test_a_variable_that_nobody_reads_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMFS_S3_BUKCET", "b")
    finding = next(diagnose())
    assert finding.verdict == "warning"
    assert finding.hint == "did you mean AMFS_S3_BUCKET?"


def test_an_endpoint_without_a_bucket_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMFS_S3_ENDPOINT", "http://localhost:9000")
    finding = next(diagnose())
    assert finding.verdict == "warning"
    assert "AMFS_S3_ENDPOINT has no effect" in finding.found
    assert "AMFS_S3_BUCKET" in finding.hint
    assert next(diagnose(store="there")).verdict == "ok"


def test_an_empty_namespace_beside_a_full_one_is_a_warning(tmp_path: Path) -> None:
    with AgentMemory("a", namespace="production") as memory:
        memory.write("e", "k", 1)
    finding = by_name(diagnose(namespace="prodcution"))["memories"]
    assert finding.verdict == "warning"
    assert "--namespace production" in finding.hint


def test_a_damaged_newest_version_is_a_problem(tmp_path: Path) -> None:
    with AgentMemory("a") as memory:
        memory.write("e", "k", 1)
    (tmp_path / ".amfs/default/entries/e/k/v1.json").write_text("{}")
    assert problems(diagnose()) == ["memories"]


def test_a_cache_dir_that_cannot_be_one_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place, verdict in ((tmp_path / "file", "warning"), (tmp_path / "new/one", "ok")):
        monkeypatch.setenv("AMFS_CACHE_DIR", str(place))
        assert by_name(diagnose())["cache_dir"].verdict == verdict
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


# --- the command ---------------------------------------------------------------------------------


def test_json_is_a_document_per_finding_and_the_code_says_whether_one_is_a_problem(
    tmp_path: Path,
) -> None:
    done = run("doctor", "--json")
    assert done.exit_code == 0
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [finding["name"] for finding in told] == list(LOCAL)
    assert {tuple(finding) for finding in told} == {("name", "verdict", "found", "hint")}
    assert {finding["verdict"] for finding in told} <= {"ok", "warning"}
    assert all((finding["hint"] is None) == (finding["verdict"] == "ok") for finding in told)
    (tmp_path / "file").write_text("")
    done = run("--store", "file", "doctor")
    assert done.exit_code == 1
    assert "root\tproblem\t" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 problem")
    assert "no such option" in refused("doctor", "--fast").lower()


def test_on_a_terminal_verdicts_have_colour_and_hostile_names_drive_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil\x1b[2J").write_text("")
    seen = on_a_terminal("--store", "evil\x1b[2J", "doctor")
    assert "\x1b[1;31mproblem" in seen
    assert "\x1b[32mok" in seen
    assert "→" in seen
    assert "\x1b[2J" not in seen


def test_help_names_doctor_and_imports_none_of_it() -> None:
    code = (
        "import sys\nfrom amfs.cli import amfs\ntry:\n    amfs.main(['--help'])\n"
        "except SystemExit:\n    print([one for one in sys.modules if 'doctor' in one])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "  doctor " in done.stdout
    assert done.stdout.endswith("[]\n")


# -- a SQLite file ------------------------------------------------------------------------------


def test_a_sqlite_file_is_well_and_only_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    place = f"sqlite:///{path}"
    assert not problems(by_name(diagnose(store=place)).values())
    assert os.listdir(tmp_path) == []
    with contextlib.closing(SqliteAdapter(path)) as adapter:
        AgentMemory("a", adapter=adapter).write("e", "k", 1)
    before = path.read_bytes()
    findings = by_name(diagnose(store=place))
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert "a store of" in findings["file"].found
    assert (os.listdir(tmp_path), path.read_bytes()) == (["store.db"], before)


def test_a_sqlite_file_of_another_program_or_with_two_names_is_told(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"no database, but something else" * 100)
    findings = by_name(diagnose(store=f"sqlite:///{path}"))
    assert problems(findings.values()) == ["file"]
    assert "name another path" in findings["file"].hint
    assert findings["create"].found == "because of: file"
    path.unlink()
    with contextlib.closing(SqliteAdapter(path)) as adapter:
        adapter.create("a.json", b"one")
    os.link(path, tmp_path / "another.db")
    findings = by_name(diagnose(store=f"sqlite:///{path}"))
    assert findings["file"].verdict == "warning"
    assert "symbolic link" in findings["file"].hint
    findings = by_name(diagnose(store=f"sqlite:///{tmp_path}/not/there.db"))
    assert problems(findings.values()) == ["root"]


def test_a_sqlite_file_on_a_network_file_system_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mounts"
    table.write_text(f"/dev/root / ext4 rw 0 0\nhost:/y {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr("amfs_core.mounts._TABLE", str(table))
    findings = by_name(diagnose(store=f"sqlite:///{tmp_path}/store.db"))
    assert problems(findings.values()) == ["file system"]
    assert "bucket for several" in findings["file system"].hint
