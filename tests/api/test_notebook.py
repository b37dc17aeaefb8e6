"""Figures as a notebook shows them."""

from small_steps import Steps


def test_a_notebook_shows_figures_as_a_table(steps: Steps) -> None:
    shown = steps.comparison._repr_html_()
    assert shown.startswith("<table>")
    assert all(text in shown for text in ("lambdamart", "add_to_cart", "MRR@10", "MRR@10 difference", "AUC"))
    assert "difference" not in steps.evaluations["lambdamart"]._repr_html_()
