"""Makes `quickstart.ipynb` of `quickstart.py`, whose cells begin with `# %%`: `python examples/make_notebook.py`."""

import json
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent


def notebook(script: str) -> str:
    """Turns a script in percent format into a notebook without outputs.

    Args:
        script: The script.

    Returns:
        The notebook's JSON.
    """
    cells = [_cell(number, chunk) for number, chunk in enumerate(script.split("\n# %%")) if chunk.strip()]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, chunk: str) -> dict[str, Any]:
    head, _, body = chunk.removeprefix("# %%").partition("\n")
    is_markdown = "[markdown]" in head
    lines = body.strip("\n").split("\n")
    if is_markdown:
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    source = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    cell: dict[str, Any] = {"cell_type": "markdown" if is_markdown else "code", "id": f"cell-{number}", "metadata": {}}
    if not is_markdown:
        cell |= {"execution_count": None, "outputs": []}
    return cell | {"source": source}


if __name__ == "__main__":
    script = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    (EXAMPLES / "quickstart.ipynb").write_text(notebook(script), encoding="utf-8")
