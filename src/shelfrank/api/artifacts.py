"""What steps write and return: a folder each, which the next step takes."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from shelfrank.api.arguments import Location, checked
from shelfrank.core.artifact import Manifest, read_manifest
from shelfrank.core.errors import UserError

A = TypeVar("A", bound="Artifact")


@dataclass(frozen=True)
class Artifact:
    """A step's result on disk.

    Attributes:
        path: Its folder.
        changed: Whether the step wrote it now; False where a finished result of the same inputs was kept, and where it
            was only opened.
    """

    kind: ClassVar[str]

    path: Path
    changed: bool = False

    @classmethod
    @checked
    def open(cls: type[A], path: Location) -> A:
        """Opens a finished result.

        Args:
            path: Its folder.

        Returns:
            The result, with `changed` False.

        Raises:
            UserError: Where the folder is missing, half-written, truncated, or something else.
        """
        read_manifest(Path(path), cls.kind)
        return cls(Path(path))

    @property
    def manifest(self) -> Manifest:
        """The folder's manifest as it is now."""
        return read_manifest(self.path, self.kind)

    @property
    def info(self) -> Mapping[str, Any]:
        """Facts about it, such as row counts and what the step cost."""
        return self.manifest.info

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def _read_json(self, file: str) -> dict[str, Any]:
        # Read each time: a step that is run again with other settings replaces the folder.
        read_manifest(self.path, self.kind)
        path = self.path / file
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} must be JSON, but it cannot be read; write {self.path} again") from error


@dataclass(frozen=True)
class PreparedData(Artifact):
    """The arrays that training reads."""

    kind: ClassVar[str] = "prepared_data"


@dataclass(frozen=True)
class Run(Artifact):
    """A trained ranker."""

    kind: ClassVar[str] = "run"


@dataclass(frozen=True)
class SemanticModel(Artifact):
    """A text model that was fine-tuned on a search log."""

    kind: ClassVar[str] = "semantic_model"


@dataclass(frozen=True)
class SemanticScores(Artifact):
    """The cosine of every query and product that a search log shows together."""

    kind: ClassVar[str] = "semantic_scores"


@dataclass(frozen=True)
class Agreement(Artifact):
    """How well relevance labels agree with true grades."""

    kind: ClassVar[str] = "relevance_agreement"

    @property
    def report(self) -> dict[str, Any]:
        """Every figure, as `agreement.json` holds it."""
        return self._read_json("agreement.json")

    @property
    def page(self) -> Path:
        """The figures as a page."""
        return self.path / "agreement.html"


@dataclass(frozen=True)
class Tuning(Artifact):
    """A finished search for settings."""

    kind: ClassVar[str] = "tuning"

    @property
    def report(self) -> dict[str, Any]:
        """Every trial and its figures, as `trials.json` holds them."""
        return self._read_json("trials.json")

    @property
    def best(self) -> Path:
        """The best settings as YAML: the `config` of the next training."""
        return self.path / "best.yaml"

    @property
    def page(self) -> Path:
        """The search as a page."""
        return self.path / "tuning.html"


@dataclass(frozen=True)
class ModelCard(Artifact):
    """The card of a run: data, use, figures by segment, limits."""

    kind: ClassVar[str] = "model_card"

    @property
    def markdown(self) -> Path:
        """The card as Markdown, its first lines the metadata that model hubs read."""
        return self.path / "model_card.md"

    @property
    def page(self) -> Path:
        """The card as a page."""
        return self.path / "model_card.html"

    def _repr_markdown_(self) -> str:
        _, _, text = self.markdown.read_text(encoding="utf-8").partition("\n---\n")
        return text
