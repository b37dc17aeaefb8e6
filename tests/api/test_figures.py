"""Evaluations and comparisons as tables."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_steps import FAST, Steps

import shelfrank as sr


def test_the_table_holds_every_figure_of_the_report(steps: Steps) -> None:
    evaluation = steps.evaluations["lambdamart"]
    table = evaluation.table()
    figure = table[(table["metric"] == "ndcg") & (table["k"] == 5) & (table["task"] == "purchase")].iloc[0]
    expected = evaluation.report["ndcg"]["5"]["purchase"]
    assert figure[["value", "low", "high", "n"]].tolist() == [expected[name] for name in ("value", "low", "high", "n")]
    assert table.groupby("metric").size().to_dict() == {"auc": 3, "mrr": 9, "ndcg": 9, "pd": 1}
    assert (table["k"].dtype, table["n"].dtype, table["low"].dtype) == ("Int64", "Int64", "float64")


def test_the_means_over_searches_are_the_figures(steps: Steps) -> None:
    evaluation = steps.evaluations["lambdamart"]
    table, searches = evaluation.table(), evaluation.per_search()
    assert searches["search_id"].is_unique
    assert (searches["n_products"] > 0).all()
    pooled = table[table["metric"] != "auc"]
    assert len(pooled) == 19
    for row in pooled.itertuples():
        name = f"{row.metric}@{row.k}" + ("" if pd.isna(row.task) else f"_{row.task}")
        assert searches[name].mean() == pytest.approx(row.value)
        assert searches[name].count() == row.n


def test_a_comparison_holds_all_rankers_and_their_paired_differences(steps: Steps) -> None:
    table, searches = steps.comparison.table(), steps.comparison.per_search()
    assert searches.groupby("ranker").size().nunique() == 1
    figure = table[(table["metric"] == "mrr") & (table["k"] == 10) & (table["task"] == "click")].set_index("ranker")
    means = searches.groupby("ranker")["mrr@10_click"].mean()
    assert means.to_dict() == pytest.approx(figure["value"].to_dict())
    own = figure.loc["lambdamart"]
    assert own["difference"] == pytest.approx(means["lambdamart"] - means["shown_order"])
    assert own["difference_low"] <= own["difference"] <= own["difference_high"]
    assert np.isnan(figure.loc["shown_order", "difference"])


def test_an_evaluation_that_changed_after_the_comparison_is_refused(steps: Steps, tmp_path: Path) -> None:
    evaluations = [sr.evaluate(run, out=tmp_path / name, **FAST) for name, run in steps.runs.items()]
    comparison = sr.compare(evaluations, out=tmp_path / "comparison")
    sr.evaluate(steps.runs["lambdamart"], out=tmp_path / "lambdamart", **FAST, ks=[1])
    with pytest.raises(sr.UserError, match="lambdamart must be the evaluation that was compared"):
        comparison.per_search()


def test_a_table_without_pandas_says_what_to_install(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    for table in (steps.comparison.table, steps.comparison.per_search, steps.evaluations["lambdamart"].table):
        with pytest.raises(sr.UserError, match="pip install pandas"):
            table()
    assert steps.comparison._repr_html_()
