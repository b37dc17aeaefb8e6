"""The shop is the same on every processor."""

import ast
import math
import os
import subprocess
import sys
from pathlib import Path

import hash_log
import numpy as np
import pytest
from scipy.stats import norm

import shelfrank.simulator
from shelfrank.simulator import portable, simulate

HASH = "0690eace2a96f4740bb20d2dfcbc382f071b2f627a5a432cc3e58e0711c2b197"
"""Of `hash_log.CONFIG`. It changes only with `SOURCE["version"]`, and then in every setting alike."""
OLD_PROCESSORS = {
    "numpy": {"NPY_DISABLE_CPU_FEATURES": "X86_V3"},
    "blas": {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
    "libm": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX"},
    "words": {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"},
}
UNLIKE = {
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "power", "cos", "sin", "tanh", "pow"),
    *("dot", "matmul", "einsum", "inner", "vdot", "argpartition", "partition", "mean", "std", "var"),
    *("standard_normal", "normal", "exponential", "gumbel", "geometric", "poisson", "uniform", "choice"),
}
"""Functions of NumPy, its generators and `math` whose last bits or order hang on the processor or the library."""


def test_the_log_is_the_stored_one(tmp_path: Path) -> None:
    simulate(tmp_path / "log", hash_log.CONFIG)
    assert hash_log.hash_log(tmp_path / "log") == HASH


@pytest.mark.parametrize("name", OLD_PROCESSORS)
def test_the_log_is_the_same_on_an_old_processor(name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **OLD_PROCESSORS[name]}
    command = [sys.executable, "-W", "ignore", hash_log.__file__]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == HASH


def test_the_shop_asks_nothing_of_the_processor() -> None:
    files = sorted(Path(shelfrank.simulator.__file__).parent.glob("*.py"))
    assert len(files) > 10
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            place = f"{file.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and node.attr in UNLIKE:
                found.append(f"{place} {node.attr}")
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                found.append(f"{place} @")
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and not _is_constant(node):
                found.append(f"{place} **")
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "argsort":
                if not any(each.arg == "kind" for each in node.keywords):
                    found.append(f"{place} argsort without kind")
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "sum":
                found.append(f"{place} sum")
    assert not found, f"these differ between processors: {found}; see portable.py"


def _is_constant(node: ast.BinOp) -> bool:
    return isinstance(node.left, ast.Constant)


def test_functions_are_right() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-700, 700, 50_000)
    np.testing.assert_allclose(portable.exp(x), np.exp(x), rtol=1e-15)
    small = rng.uniform(-80, 80, 50_000).astype(np.float32)
    single = portable.exp(small)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, np.exp(small.astype(np.float64)), rtol=2e-7)
    np.testing.assert_allclose(portable.sigmoid(small), 1 / (1 + np.exp(-small.astype(np.float64))), rtol=1e-6)
    np.testing.assert_allclose(portable.log(np.exp(x)), x, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(portable.power(np.arange(1, 200), -0.4), np.arange(1, 200) ** -0.4, rtol=1e-14)
    turns = rng.uniform(-5, 5, 1000)
    np.testing.assert_allclose(portable.cos_of_turns(turns), np.cos(2 * math.pi * turns), atol=1e-14)
    shares = np.concatenate([rng.random(50_000), [2.0**-54, 1e-30, 0.5, 1 - 2.0**-53]])
    np.testing.assert_allclose(portable.normal_quantile(shares), norm.ppf(shares), rtol=1e-13, atol=1e-13)
    assert portable.log(np.array([0.0, 1.0])).tolist() == [-math.inf, 0.0]
    assert portable.exp(np.array(0.0)) == 1
    assert np.isfinite(portable.exp(np.array([1e9, -1e9]))).all()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 96])
def test_sums_are_right(n: int) -> None:
    rng = np.random.default_rng(n)
    values, others = rng.random((5, n)), rng.random((3, n))
    np.testing.assert_allclose(portable.row_means(values), values.mean(axis=1))
    np.testing.assert_allclose(portable.row_products(values, others), values @ others.T)


def test_draws_have_their_distributions() -> None:
    rng, n = np.random.default_rng(0), 200_000
    for draws, mean, spread in (
        (portable.normal(rng, n), 0.0, 1.0),
        (portable.exponential(rng, n), 1.0, 1.0),
        (portable.gumbel(rng, n), 0.5772, math.pi / math.sqrt(6)),
        (portable.geometric(rng, np.full(n, 0.7)), 1 / 0.3, math.sqrt(0.7) / 0.3),
    ):
        assert draws.mean() == pytest.approx(mean, abs=5 * spread / math.sqrt(n))
        assert draws.std() == pytest.approx(spread, rel=0.02)
    assert (portable.geometric(rng, np.zeros(9)) == 1).all()
