"""Versions whose files are damaged and whose manifests agree with them, as a bad export or an attacker leaves them."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from shelfrank.core.artifact import MANIFEST, write_atomic

TREES, GRAPH = "model.click.txt", "onnx/ranker.fp32.onnx"


def damaged_copy(source: Path, out: Path, kind: str) -> Path:
    """Copies a version, damages the copy and corrects its manifest.

    Args:
        source: A version's folder; of trees or of a network, as `kind` needs it.
        out: The copy's folder.
        kind: A name in `DAMAGES`.
    """
    shutil.copytree(source, out)
    file, damage = DAMAGES[kind]
    content = damage((out / file).read_bytes())
    (out / file).write_bytes(content)
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    # As a tool that knows the format would, which leaves the fingerprint alone.
    manifest["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_atomic(out / MANIFEST, json.dumps(manifest).encode())
    return out


def _lines(name: str, value: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    """Replaces the values of each line `name=...` of LightGBM's text format."""

    def damage(content: bytes) -> bytes:
        def line(found: re.Match[str]) -> str:
            return f"{name}={' '.join(value(found[1].split()))}"

        # The sizes of the trees' texts would no longer be right; without them, LightGBM reads one tree after the other.
        text = re.sub(r"^tree_sizes=.*\n", "", content.decode(), flags=re.MULTILINE)
        return re.sub(rf"^{name}=(.*)$", line, text, flags=re.MULTILINE).encode()

    return damage


def _loop(content: bytes) -> bytes:
    for side in ("left_child", "right_child"):
        content = _lines(side, lambda values: ["0"] * len(values))(content)
    return content


def _set(name: str, value: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | {name: value}).encode()


def _flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    for place in range(len(changed) // 4, len(changed), max(len(changed) // 50, 1)):
        changed[place] ^= 0xFF
    return bytes(changed)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "trees_empty": (TREES, lambda content: b""),
    "trees_half": (TREES, lambda content: content[: len(content) // 2]),
    "trees_flipped": (TREES, _flipped),
    "trees_zeros": (TREES, lambda content: bytes(len(content))),
    "trees_child_beyond": (TREES, _lines("left_child", lambda values: ["2000000"] * len(values))),
    "trees_leaf_beyond": (TREES, _lines("left_child", lambda values: ["-9999999"] * len(values))),
    "trees_loop": (TREES, _loop),
    "trees_feature_beyond": (TREES, _lines("split_feature", lambda values: ["90000000"] * len(values))),
    "trees_many_leaves": (TREES, _lines("num_leaves", lambda values: ["2000000"])),
    "trees_no_leaves": (TREES, _lines("num_leaves", lambda values: ["-5"])),
    "trees_few_values": (TREES, _lines("leaf_value", lambda values: values[:1])),
    "trees_wrong_values": (TREES, _lines("leaf_value", lambda values: [str(3 + float(each)) for each in values])),
    "trees_no_numbers": (TREES, _lines("leaf_value", lambda values: ["nan"] * len(values))),
    "graph_empty": (GRAPH, lambda content: b""),
    "graph_half": (GRAPH, lambda content: content[: len(content) // 2]),
    "graph_flipped": (GRAPH, _flipped),
    "graph_of_text": (GRAPH, lambda content: b"\xff" * len(content)),
    "spec_of_other_columns": ("bundle.json", _set("numerical", [10**9])),
    "spec_of_another_model": ("bundle.json", _set("model", "lambdamart")),
    "tables_half": ("features/products/rows.npy", lambda content: content[: len(content) // 2]),
    "tables_of_objects": ("features/times.npy", lambda content: content.replace(b"<i8", b"|O8")),
    "tokenizer_half": ("text/tokenizer.json", lambda content: content[: len(content) // 2]),
}
"""By kind, the file that is damaged and how; kinds of trees are for a version of LightGBM's trees, others for one of a
network."""
