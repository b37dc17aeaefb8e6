"""A version that would end, stall or mislead the service ends a child process at most, and only once."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from serving import body_of, get, golden_page, post, served, wait_until

from damaged_bundle import DAMAGES, damaged_copy
from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.spec import SHOP, SHOP_PRODUCTS
from shelfrank.bundle.store import CURRENT, BundleStore, Version
from shelfrank.core.artifact import write_atomic
from shelfrank.core.errors import UserError
from shelfrank.rankers.run import train
from shelfrank.serve import version_checks
from shelfrank.serve.service import MIN_RETRY_LOAD_S, Service, _Refusal
from shelfrank.serve.version_checks import EndedProcessError, VersionChecks
from tiny import tiny

RUN = VersionChecks._run
CHECK_EACH = """
import os, sys, lightgbm, onnxruntime
from shelfrank.bundle import golden
from shelfrank.serve import version_checks
for folder in sys.argv[1:]:
    sys.stdout.flush()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.dup2(writing, 1)
        version_checks.main(folder, "fp32", "0", "2", "4000000000")
    os.close(writing)
    with open(reading) as report:
        said = report.read()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said)
"""
"""Checks many versions: a process that has loaded the libraries is copied for each, in place of a new one."""


@pytest.fixture(autouse=True)
def start_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VersionChecks, "_run", RUN)


@pytest.fixture(scope="module")
def tree_bundle(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of LightGBM's trees, only to be read."""
    folder = tmp_path_factory.mktemp("trees")
    train(small_prepared, "lambdamart", tiny("lambdamart"), folder / "run")
    export(folder / "run", folder / "bundle", ExportSettings(golden_pages=3, replayed=0))
    return folder / "bundle"


@pytest.fixture(scope="module")
def outcomes(tree_bundle: Path, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By kind of damage, exit code and report of the process that checked it; `trees` and `graph` have none."""
    folder = tmp_path_factory.mktemp("damaged")
    trees, graph = BundleStore(tree_bundle).open().path, BundleStore(bundle_path).open().path
    versions = {"trees": trees, "graph": graph}
    for kind in DAMAGES:
        versions[kind] = damaged_copy(trees if kind.startswith("trees") else graph, folder / kind, kind)
    command = [sys.executable, "-c", CHECK_EACH, *map(str, versions.values())]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return dict(zip(versions, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("kind", ["trees", "graph"])
def test_a_good_version_passes(kind: str, outcomes: dict[str, str]) -> None:
    assert outcomes[kind] == '0 {"problem": null}'


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_version_does_not_pass(kind: str, outcomes: dict[str, str]) -> None:
    code, _, report = outcomes[kind].partition(" ")
    assert json.loads(report)["problem"] if code == "0" else int(code) < 0


def test_some_kinds_of_damage_end_a_process(outcomes: dict[str, str]) -> None:
    ended = {-int(each.partition(" ")[0]) for each in outcomes.values()}
    assert {signal.SIGABRT, signal.SIGSEGV, signal.SIGXCPU} <= ended


def test_titles_are_checked_without_the_page(shop_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(BundleStore(shop_bundle).open().path, folder)
    version_checks._open(folder, "fp32", has_page=False)
    products = folder / SHOP / SHOP_PRODUCTS
    products.write_bytes(products.read_bytes()[:100])
    with pytest.raises(pa.ArrowInvalid):
        version_checks._open(folder, "fp32", has_page=False)


@pytest.fixture
def version(own_bundle: BundleStore) -> Version:
    """A version that a test may change."""
    return own_bundle.open()


@pytest.fixture
def checks(tmp_path: Path) -> VersionChecks:
    return VersionChecks(tmp_path / "state", "fp32", has_page=False)


def run_instead(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a shell script run in place of the child."""
    file = folder / "child"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(file))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo much; echo 'what():  no' >&2; echo >&2; kill -ABRT $$", r"SIGABRT, what\(\):  no"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("kill -XCPU $$", r"no end within 3\d s of processor time"),
        ("exit 3", "exit code 3"),
        ("exit 0", "exit code 0"),
        ("exec sleep 60", "no end within 0 s"),
    ],
)
def test_a_version_that_ends_a_process_is_not_tried_again(
    script: str,
    reason: str,
    version: Version,
    checks: VersionChecks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_instead(script, tmp_path, monkeypatch)
    if "sleep" in script:
        monkeypatch.setattr(version_checks, "WALL_FACTOR", 0)
    said = rf"must not end the process that opens it, but it did: {reason}; it is not tried again, so export the run"
    with pytest.raises(EndedProcessError, match=said):
        checks.check(version)
    monkeypatch.setattr(version_checks, "WALL_FACTOR", 10)
    run_instead("""echo '{"problem": null}'""", tmp_path, monkeypatch)
    restarted = VersionChecks(tmp_path / "state", "fp32", has_page=False)
    with pytest.raises(EndedProcessError, match=said):
        restarted.check(version)
    with pytest.raises(EndedProcessError, match=said):
        restarted.refuse_known(version.name, version.path)
    # Another manifest is another version, and another precision another model.
    VersionChecks(tmp_path / "state", "int8", has_page=False).check(version)
    with (version.path / "manifest.json").open("a") as manifest:
        manifest.write("\n")
    restarted.check(version)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("kill -KILL $$", "must be checked before it serves, but its check was killed"),
        ("kill -TERM $$", "must be checked before it serves, but its check was killed"),
        ("""echo '{"problem": "it is odd"}'""", "^it is odd$"),
    ],
)
def test_other_problems_are_not_remembered(
    script: str,
    problem: str,
    version: Version,
    checks: VersionChecks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_instead(script, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=problem):
        checks.check(version)
    run_instead("""echo '{"problem": null}'""", tmp_path, monkeypatch)
    checks.check(version)


def test_a_version_that_passed_is_not_checked_again(
    version: Version, checks: VersionChecks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks.check(version)
    run_instead("exit 1", tmp_path, monkeypatch)
    VersionChecks(tmp_path / "state", "fp32", has_page=False).check(version)
    with pytest.raises(EndedProcessError):
        VersionChecks(tmp_path / "elsewhere", "fp32", has_page=False).check(version)


def test_a_service_that_ends_gives_a_check_up(
    version: Version, checks: VersionChecks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(f"touch {tmp_path}/begun; exec sleep 60", tmp_path, monkeypatch)
    problems: list[UserError] = []

    def check() -> None:
        try:
            checks.check(version)
        except UserError as error:
            problems.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    wait_until((tmp_path / "begun").exists)
    checks.stop()
    thread.join(10.0)
    assert [str(each) for each in problems] == [
        f"bundle {version.name} must be checked before it serves, but its check was killed"
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_damaged_version_fails_no_request_and_the_old_one_serves_on(
    tree_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers and children start six times, and each imports LightGBM.
    monkeypatch.setattr("serving.PATIENCE_S", 240.0)
    store = BundleStore(Path(shutil.copytree(tree_bundle, tmp_path / "bundle")))
    good = store.open()
    body = body_of(golden_page(store.path))
    lines: list[str] = []
    options = ("--workers", "2", "--poll-s", "0.2", "--state", str(tmp_path / "state"))
    answers: list[tuple[int, str]] = []
    ended, asking = threading.Event(), threading.Lock()

    def ask(address: str) -> None:
        while not ended.is_set():
            with asking:
                answer = post(f"{address}/v1/rank", body)
            answers.append((answer.status_code, answer.json()["bundle"]))
            time.sleep(0.05)

    def logged(text: str) -> int:
        return sum(text in line for line in lines)

    with served(store.path, *options, lines=lines) as (process, address):
        caller = threading.Thread(target=ask, args=(address,))
        caller.start()
        try:
            name = "000002-0123456789ab"
            damaged_copy(good.path, store.path / "versions" / name, "trees_leaf_beyond")
            write_atomic(store.path / CURRENT, f"{name}\n".encode())
            wait_until(lambda: logged(f"bundle {name} must not end the process that opens it") == 2)
            # A request that a killed process has taken is lost; all others wait for the next process.
            with asking:
                pids = children(process.pid)
                assert len(pids) == 2
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: logged(f"bundle {name} must not end the process that opens it") == 4)
            wait_until(lambda: len(children(process.pid) - pids) == 2 and get(f"{address}/readyz").status_code == 200)
        finally:
            ended.set()
            caller.join()
        assert len(list((tmp_path / "state" / "checked").glob("*.json"))) == 2
    assert set(answers) == {(200, good.name)}


def children(pid: int) -> set[int]:
    """The workers of a service."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return {int(line.split()[0]) for line in found.stdout.splitlines() if re.search("spawn_main", line)}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that services try, in order."""
    tried: list[str] = []
    load = Service._load

    def record(self: Service, name: str) -> None:
        tried.append(name)
        load(self, name)

    monkeypatch.setattr(Service, "_load", record)
    monkeypatch.setattr(VersionChecks, "_run", lambda self, version: (None, None))
    return tried


def test_a_version_whose_files_arrive_after_the_pointer_serves(
    make_service: Callable[..., Service], own_bundle: BundleStore, loads: list[str]
) -> None:
    import asyncio

    service, first = make_service(own_bundle), own_bundle.open()
    name = "000002-0123456789ab"
    write_atomic(own_bundle.path / CURRENT, f"{name}\n".encode())

    async def arrive() -> None:
        following = asyncio.create_task(service.follow(0.02))
        await until(lambda: name in loads)
        shutil.copytree(first.path, own_bundle.folder(name), ignore=shutil.ignore_patterns("bundle.json"))
        await until(lambda: loads.count(name) > 1)
        assert service.version == first.name
        tried = len(loads)
        await asyncio.sleep(0.2)
        # As long as nothing arrives, only the pause leads to another try.
        assert len(loads) <= tried + 1
        shutil.copy(first.path / "bundle.json", own_bundle.folder(name))
        await until(lambda: service.version == name)
        following.cancel()

    async def until(holds: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, holds)

    asyncio.run(arrive())


def test_a_refused_version_is_tried_after_longer_and_longer_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    refusal = _Refusal(("a",), None, is_final=False)
    for pause_s in (MIN_RETRY_LOAD_S, 2 * MIN_RETRY_LOAD_S, 4 * MIN_RETRY_LOAD_S):
        now_s += pause_s - 1
        assert not refusal.is_due(("a",))
        now_s += 1
        assert refusal.is_due(("a",))
        refusal = _Refusal(("a",), refusal, is_final=False)
    # Files that still arrive are waited for.
    assert [refusal.is_due((stamp,)) for stamp in ("b", "c", "c")] == [False, False, True]
    final = _Refusal(("c",), refusal, is_final=True)
    now_s += 1e9
    assert [final.is_due((stamp,)) for stamp in ("c", "c", "d", "d")] == [False, False, False, True]


def test_an_odd_manifest_or_a_stray_file_is_one_warning(
    make_service: Callable[..., Service], own_bundle: BundleStore, caplog: pytest.LogCaptureFixture, loads: list[str]
) -> None:
    good = own_bundle.open()
    (own_bundle.path / "versions" / "notes.txt").write_text("mine")
    (own_bundle.path / "versions" / ".DS_Store").write_text("")
    odd = own_bundle.folder("000009-0123456789ab")
    odd.mkdir()
    (odd / "manifest.json").write_text('{"kind": "bundle", "inputs": {}, "info": {}, "files": [1], "fingerprint": 3}')
    service = make_service(own_bundle)
    assert service.version == good.name
    for _ in range(3):
        assert own_bundle.versions() == [good]
    said = [record.message for record in caplog.records]
    assert sum("notes.txt is no version of a bundle; it is passed over" in each for each in said) == 1
    assert sum("must be a manifest of shelfrank, but it cannot be read" in each for each in said) == 1
    assert not any(".DS_Store" in each for each in said)
