"""The command line: the whole path, what is not done twice, and every bad input told in one sentence."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from typer.main import get_command

from shelfrank import Bundle, __version__, cli, demo
from shelfrank.cli.commands import HEADINGS
from shelfrank.core.artifact import MANIFEST
from shelfrank.rankers import RANKERS
from shelfrank.simulator import StorefrontConfig
from small_log import small_tables, write_small_log
from tiny import TINY

RESAMPLES = ("--set", "n_resamples=20", "--set", "n_resamples_auc=5")
MAPPING = {
    "name": "csv shop",
    "tables": {"impressions": "shown.csv"},
    "columns": {
        "impressions": {
            "search": "search_id",
            "time": "timestamp",
            "who": "customer_id",
            "words": "query",
            "product": "product_id",
            "place": "position",
            "title": "title",
            "click": "click",
            "brand": {"side": "product", "kind": "categorical"},
        }
    },
}


@dataclass(frozen=True)
class Told:
    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What standard error says, wherever its lines break."""
        return " ".join(self.err.split())

    @property
    def sentence(self) -> str:
        """The one error that was told; anything else on standard error fails the test."""
        lines = [line for line in self.err.splitlines() if not line.startswith('{"step"')]
        assert lines, "nothing was told"
        assert lines[0].startswith("error: "), self.err
        # A list of broken rules may follow, indented.
        assert all(line.startswith("  ") for line in lines[1:]), self.err
        return self.err.removeprefix("error: ")


@pytest.fixture
def shelfrank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Runs the command line in this process: `shelfrank("train", folder, "--out", out)`."""

    def run(*words: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["shelfrank", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        captured = capsys.readouterr()
        return Told(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


def assignments(*more: str) -> list[str]:
    return [word for setting in (*TINY, *more) for word in ("--set", setting)]


def write_csv(folder: Path, n_searches: int = 60) -> Path:
    """A shop's own file with the mapping that explains it."""
    folder.mkdir()
    tables = small_tables(n_searches)
    products = {row["product_id"]: row for row in tables["products"]}
    rows = [
        {
            "search": row["search_id"],
            "time": row["timestamp"].isoformat(),
            "who": row["customer_id"],
            "words": row["query"],
            "product": row["product_id"],
            "place": row["position"],
            "title": products[row["product_id"]]["title"],
            "brand": products[row["product_id"]]["brand"],
            "click": row["click"],
        }
        for row in tables["impressions"]
    ]
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), folder / "shown.csv")
    (folder / "mapping.yaml").write_text(yaml.safe_dump(MAPPING))
    return folder / "mapping.yaml"


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_not_accepted(out: Path) -> None:
    """Nothing lies where a result would, nor a half-written one beside it."""
    assert not out.exists()
    assert [file.name for file in out.parent.iterdir() if file.name.startswith(f".{out.name}.tmp")] == []


def test_the_whole_path_and_then_nothing_to_do(shelfrank: Callable[..., Told], tmp_path: Path) -> None:
    mapping = write_csv(tmp_path / "source")
    steps: list[tuple[str, list[object]]] = [
        ("log", ["import", "custom", mapping]),
        ("prepared", ["prepare", tmp_path / "log"]),
    ]
    for name in ("shown_order", "mmoe"):
        run = tmp_path / f"run_{name}"
        steps.append((run.name, ["train", tmp_path / "prepared", "--ranker", name, "--seed", 3, *assignments()]))
        steps.append((name, ["evaluate", run, *RESAMPLES]))
    for out, words in steps:
        done = shelfrank(*words, "--out", tmp_path / out)
        assert (done.code, "done in" in done.words) == (0, True), done.err
    comparing = ("compare", tmp_path / "shown_order", tmp_path / "mmoe", "--out", tmp_path / "comparison")
    first = shelfrank(*comparing)
    assert first.code == 0
    assert "MMoE" in first.out
    assert (tmp_path / "comparison" / "report.html").is_file()
    assert yaml.safe_load((tmp_path / "run_mmoe" / "config.yaml").read_text())["seed"] == 3

    before = bytes_of(tmp_path)
    for out, words in steps:
        again = shelfrank(*words, "--out", tmp_path / out)
        assert (again.code, "unchanged, nothing to do" in again.words) == (0, True), again.err
    again = shelfrank(*comparing)
    assert "compare: unchanged" in again.err
    assert again.out == first.out
    assert bytes_of(tmp_path) == before


def test_json_for_machines(
    shelfrank: Callable[..., Told], small_prepared: Path, small_runs: dict[str, Path], tmp_path: Path
) -> None:
    trained = shelfrank("train", small_prepared, "--ranker", "shown_order", "--out", tmp_path / "run", "--json")
    assert json.loads(trained.out)["changed"] is True
    evaluated = shelfrank("evaluate", tmp_path / "run", "--out", tmp_path / "shown_order", *RESAMPLES, "--json")
    assert json.loads(evaluated.out)["ranker"] == "shown_order"
    compared = shelfrank("compare", tmp_path / "shown_order", "--out", tmp_path / "comparison", "--json")
    assert json.loads(compared.out)["baseline"] == "shown_order"
    valid = shelfrank("validate", small_prepared.with_name("log"), "--json")
    assert valid.code == 0
    assert json.loads(valid.out) == []


def test_as_a_module_in_a_process_of_its_own() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "shelfrank", *words], capture_output=True, text=True, check=False)

    assert run("--version").stdout == f"{__version__}\n"
    missing = run("validate", "no/such/log")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: no/such/log must be the folder of a search log")
    assert len(missing.stderr.splitlines()) == 1


def test_help_lists_every_command_in_the_order_of_the_work(shelfrank: Callable[..., Told]) -> None:
    listed = [name for names in HEADINGS.values() for name in names]
    assert sorted(listed) == sorted(getattr(get_command(cli.app), "commands", {}))
    lines = [line.strip("│ ") for line in shelfrank("--help").out.splitlines()]
    assert [line.split()[0] for line in lines if line and line.split()[0] in listed] == listed
    assert all(any(heading in line for line in lines) for heading in HEADINGS)


def test_rankers_are_listed(shelfrank: Callable[..., Told]) -> None:
    listed = shelfrank("rankers").out.splitlines()
    assert [line.split()[0] for line in listed] == list(RANKERS)


def test_validate_lists_every_violation_and_fails(shelfrank: Callable[..., Told], tmp_path: Path) -> None:
    log = write_small_log(tmp_path / "log", small_tables(30))
    (log / "products" / "part-00000.parquet").unlink()
    told = shelfrank("validate", log)
    assert told.code == 2
    assert "error: products: must hold at least one part file" in told.out


def test_the_demo_goes_the_whole_path(
    shelfrank: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PACKAGED_MODEL", "not_installed")
    monkeypatch.setattr(demo, "SERVED", ("blend", [*TINY]))
    monkeypatch.setattr(demo, "SMALL", StorefrontConfig(searches=12_000, products=400, customers=100))
    first = shelfrank("demo", "--out", tmp_path / "demo", "--searches", 250)
    assert first.code == 0, first.err
    comparison = json.loads((tmp_path / "demo" / "comparison" / "comparison.json").read_text())
    assert [each["name"] for each in comparison["rankers"]] == ["shown_order", "lambdamart", "blend"]
    assert (tmp_path / "demo" / "comparison" / "report.html").is_file()
    products = pq.read_table(tmp_path / "demo" / "log" / "products")["product_id"].to_pylist()[:3]
    ranked = Bundle.open(tmp_path / "demo" / "bundle").rank(query="red sofa", candidates=products)
    assert sorted(result.id for result in ranked.results) == sorted(products)

    before = bytes_of(tmp_path)
    again = shelfrank("demo", "--out", tmp_path / "demo", "--searches", 250)
    assert again.err.count("unchanged") == 10
    assert again.err.rstrip().endswith(f"shelfrank serve {tmp_path / 'demo' / 'bundle'}")
    assert bytes_of(tmp_path) == before


def changed_mapping(mapping: Path, change: Callable[[dict], None]) -> None:  # pyright: ignore[reportMissingTypeArgument]
    data = yaml.safe_load(mapping.read_text())
    change(data)
    mapping.write_text(yaml.safe_dump(data))


def replace_in_csv(mapping: Path, old: str, new: str, count: int = -1) -> None:
    file = mapping.with_name("shown.csv")
    file.write_text(file.read_text().replace(old, new, count))


def keep_lines(mapping: Path, n: int) -> None:
    file = mapping.with_name("shown.csv")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:n]))


BAD_SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing column": (lambda m: replace_in_csv(m, '"place"', '"rank"'), "'place'"),
    "wrong type": (lambda m: replace_in_csv(m, "2025-01-01T", "yesterday ", 1), "must hold times"),
    "label that is none": (lambda m: replace_in_csv(m, ",0\n", ",7\n", 1), "must hold 0 or 1"),
    "empty file": (lambda m: m.with_name("shown.csv").write_bytes(b""), "the file is empty"),
    "no searches": (lambda m: keep_lines(m, 1), "at least one search"),
    "no file": (lambda m: m.with_name("shown.csv").unlink(), "no such file"),
    "no text": (lambda m: m.with_name("shown.csv").write_bytes(b"\xff\xfe\x00" * 99), "must be text in UTF-8"),
    "label as feature": (
        lambda m: changed_mapping(
            m,
            lambda d: d["columns"]["impressions"].update(
                brand={"side": "product", "kind": "categorical", "name": "purchase"}
            ),
        ),
        "can never be declared as a feature",
    ),
    "unknown role": (
        lambda m: changed_mapping(m, lambda d: d["columns"]["impressions"].update(who="customer")),
        "choose one of",
    ),
    "no mapping": (lambda m: m.unlink(), "no such file"),
    "no yaml": (lambda m: m.write_text("a: ["), "must be YAML"),
}


@pytest.mark.parametrize("what", BAD_SOURCES)
def test_a_bad_source_is_told(what: str, shelfrank: Callable[..., Told], tmp_path: Path) -> None:
    mapping, out = write_csv(tmp_path / "source", 12), tmp_path / "log"
    spoil, expected = BAD_SOURCES[what]
    spoil(mapping)
    told = shelfrank("import", "custom", mapping, "--out", out)
    assert told.code == 2
    assert expected in told.sentence
    assert_not_accepted(out)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["import", "custm", "mapping.yaml"], "unknown source 'custm': choose one of bestbuy, custom, "),
        (["prepare", "nothing"], "nothing must be a finished search log, but it does not exist"),
        (["prepare", "LOG", "--set", "split.trian=0.5"], "config: split.trian: unknown key"),
        (["prepare", "LOG", "--set", "split.train=2"], "split.train: Input should be less than 1"),
        (["prepare", "LOG", "--set", "split"], "--set must look like a.b=value, but it is 'split'"),
        (["prepare", "LOG", "--set", "split=[1"], "--set split must have a YAML value"),
        (["prepare", "LOG", "--config", "no.yaml"], "no.yaml must exist"),
        (["prepare", "LOG", "--set", "out=there"], "--set must name a setting, but out is none"),
        (["train", "PREPARED", "--ranker", "mmoe", "--set", "seed=-1"], "config: seed: "),
        (["prepare", "PREPARED"], "must be a search log, but it is prepared data"),
        (["train", "nothing", "--ranker", "mmoe"], "must be finished prepared data, but it does not exist"),
        (["train", "LOG", "--ranker", "mmoe"], "must be prepared data, but it is a search log"),
        (["train", "PREPARED", "--ranker", "mmo"], "unknown ranker 'mmo': choose one of"),
        (["train", "PREPARED", "--ranker", "mmoe", "--set", "epochs=3"], "config: epochs: unknown key"),
        (["train", "PREPARED", "--ranker", "mmoe", "--set", "train.epochs=many"], "train.epochs: "),
        (["train", "PREPARED", "--ranker", "mmoe", "--set", "task_weights={click: -1}"], "task_weights.click"),
        (["evaluate", "nothing"], "nothing must be a finished run, but it does not exist"),
        (["evaluate", "RUN", "--split", "tests"], "unknown split 'tests': choose one of test, train, valid"),
        (["evaluate", "RUN", "--set", "ks=[0]"], "ks.0: Input should be greater than or equal to 1 (given 0)"),
        (["compare", "nothing"], "nothing must be a finished evaluation, but it does not exist"),
        (["compare", "RUN"], "must be an evaluation, but it is a run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_command_is_told(
    words: list[str],
    expected: str,
    shelfrank: Callable[..., Told],
    small_prepared: Path,
    small_runs: dict[str, Path],
    tmp_path: Path,
) -> None:
    folders = {"LOG": small_prepared.with_name("log"), "PREPARED": small_prepared, "RUN": small_runs["shown_order"]}
    told = shelfrank(*(folders.get(word, word) for word in words), "--out", tmp_path / "out")
    assert told.code == 2
    assert expected in told.sentence
    assert_not_accepted(tmp_path / "out")


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("prepare", "log/impressions/part-00000.parquet"),
        ("prepare", "log/products/part-00000.parquet"),
        ("prepare", "log/schema.yaml"),
        ("prepare", f"log/{MANIFEST}"),
        ("train", "prepared/train/numerical.npy"),
        ("train", "prepared/valid/labels.npy"),
        ("train", "prepared/columns.json"),
        ("train", f"prepared/{MANIFEST}"),
    ],
)
@pytest.mark.parametrize("damage", ["overwritten", "cut off", "gone"])
def test_a_damaged_input_is_told(
    step: str, file: str, damage: str, shelfrank: Callable[..., Told], small_prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_prepared.parent, tmp_path / "copy")
    damaged, out = tmp_path / "copy" / file, tmp_path / "out"
    size = damaged.stat().st_size
    if damage == "overwritten":
        damaged.write_bytes(b"?" * size)
    elif damage == "cut off":
        os.truncate(damaged, size // 2)
    else:
        damaged.unlink()
    words = [step, tmp_path / "copy" / file.split("/")[0], "--out", out]
    told = shelfrank(*words, *(["--ranker", "mmoe", *assignments()] if step == "train" else []))
    assert told.code == 2
    # The damaged file is named; without a manifest, the folder is no finished one.
    named = "is not a finished folder" if (damage, damaged.name) == ("gone", MANIFEST) else file.split("/", 1)[1]
    assert named in told.sentence
    assert_not_accepted(out)


@pytest.mark.parametrize("foreign", ["file", "folder"])
def test_what_is_not_ours_is_never_replaced(
    foreign: str, shelfrank: Callable[..., Told], small_prepared: Path, small_runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if foreign == "file":
        out.write_text("thesis")
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("thesis")
    before = bytes_of(tmp_path)
    for words in (
        ["import", "custom", write_csv(tmp_path / "source", 12)],
        ["prepare", small_prepared.with_name("log")],
        ["train", small_prepared, "--ranker", "shown_order"],
        ["evaluate", small_runs["shown_order"]],
    ):
        told = shelfrank(*words, "--out", out)
        assert told.code == 2
        assert "must be new or a folder that shelfrank wrote" in told.sentence
    shutil.rmtree(tmp_path / "source")
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("step", ["import", "prepare", "mmoe", "xgboost", "lambdamart", "evaluate"])
def test_a_disk_without_room_is_told_and_leaves_nothing(
    step: str,
    shelfrank: Callable[..., Told],
    small_prepared: Path,
    small_runs: dict[str, Path],
    tmp_path: Path,
) -> None:
    commands: dict[str, list[object]] = {
        "import": ["import", "custom", write_csv(tmp_path / "source")],
        "prepare": ["prepare", small_prepared.with_name("log")],
        "evaluate": ["evaluate", small_runs["mmoe"]],
    }
    train = ["train", small_prepared, *assignments(), "--ranker", step]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: the system then refuses to write, as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        told = shelfrank(*commands.get(step, train), "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert told.code == 2
    assert os.strerror(errno.EFBIG) in told.sentence
    assert_not_accepted(tmp_path / "out")


def test_forward_folds_go_through_the_same_commands(
    shelfrank: Callable[..., Told], small_folds: Path, tmp_path: Path
) -> None:
    split = ("--set", "split.by=forward", "--set", "split.train=0.6", "--set", "split.folds=2")
    told = shelfrank("prepare", small_folds / "log", "--out", tmp_path / "prepared", *split)
    assert "folds: 2; test below is that of all, train and valid are the last fold's" in told.words
    told = shelfrank("train", tmp_path / "prepared", "--ranker", "popularity", "--out", tmp_path / "run")
    assert told.code == 0
    told = shelfrank("evaluate", tmp_path / "run", "--out", tmp_path / "all", *RESAMPLES)
    assert "evaluated on 48 searches in 2 test windows" in told.words
    assert "; fold-1 0." in told.words
    last = shelfrank(
        "evaluate", tmp_path / "run", "--out", tmp_path / "last", *RESAMPLES, "--set", "only=last_of_session"
    )
    assert "of 48 searches (the last of each session) in 2 test windows" in last.words
    for step in (
        ("export", tmp_path / "run"),
        ("card", tmp_path / "run", tmp_path / "all"),
        ("tune", tmp_path / "prepared", "--ranker", "mmoe"),
    ):
        told = shelfrank(*step, "--out", tmp_path / "out")
        assert told.code == 2
        assert "this step must be given one fold, but" in " ".join(told.sentence.split())
