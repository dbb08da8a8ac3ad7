"""The fifteen tasks of SustainBench as published: goal, source, label, metrics, splits with counts, and known figures.

``data_manifests/tasks.yaml`` holds what is known; here it is typed and checked. Nothing is read of the data themselves.

>>> from sustain.data.catalogue.registry import load_tasks
>>> load_tasks()["sdg2-croptype-kenya"].split("official").counts
{'train': 4596, 'test': 1150}
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sustain.data.catalogue.manifest import MANIFEST_FOLDERS, TASKS_FILE
from sustain.errors import DataError, FileFormatError

__all__ = ["ImageSpec", "Label", "Published", "Split", "Task", "find_task", "load_tasks"]

Kind = Literal[
    "regression",
    "regression-pair",
    "classification",
    "classification-series",
    "segmentation",
    "segmentation-series",
    "representation",
    "few-shot",
]
Part = Literal["train", "val", "test"]
Name = Annotated[str, Field(pattern=r"^sdg[0-9]+-[a-z0-9\-]+$")]


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSpec(_Typed):
    """One sample's image as it is in the published files, channels first."""

    shape: tuple[int | None, ...]
    dtype: str | None = Field(description="null: not seen.")
    bands: tuple[str, ...]
    note: str | None = None


class Label(_Typed):
    """What is predicted."""

    column: str | None = Field(None, description="Column or key of the published table.")
    n_column: str | None = Field(None, description="Column with the number of observations behind a label.")
    unit: str | None = None
    classes: dict[int, str] = Field(default={}, description="Name of each class code.")
    classes_by_variant: dict[str, dict[int, str]] = {}
    n_classes: int | None = Field(None, description="Where the classes' names are not known.")
    variants: tuple[str, ...] = Field((), description="Kinds of label between which a user chooses.")
    note: str | None = None


class Split(_Typed):
    """One way of dividing the samples."""

    scheme: str
    variant: str | None = Field(None, description="The variant of the task that it belongs to.")
    status: Literal["official", "proposed"]
    counts: dict[Part, int | None] = Field(description="Samples of each part; null: not known.")
    derived: bool = Field(False, description="Counts follow from a rule; they were not counted in the files.")
    by: str | None = Field(None, description="What is never divided, such as a country.")
    note: str | None = None

    @property
    def total(self) -> int | None:
        """Samples of all parts, or None when a count is not known."""
        counts = list(self.counts.values())
        return None if None in counts else sum(count for count in counts if count is not None)


class Published(_Typed):
    """A figure that others published."""

    metric: str
    value: float
    model: str
    variant: str | None = None
    comparable: bool | None = Field(
        description="Whether this package's figures may stand beside it; null: not known."
    )
    rerun: float | None = Field(None, description="What a third party found when running the same code.")
    note: str | None = None


class Task(_Typed):
    """One task of the benchmark."""

    name: Name
    number: str = Field(description="Goal and letter, as in the paper.")
    sdg: int = Field(ge=1, le=17)
    title: str
    kind: Kind
    source: str = Field(description="Manifest of its files.")
    optional_source: str | None = Field(None, description="Manifest of files that the task can do without.")
    variants: tuple[Name, ...] = Field((), description="Names of its parts, where it has several countries.")
    image: ImageSpec
    label: Label
    n: int | None = Field(None, description="Samples altogether; null: not known, or the sum of a split.")
    metrics: tuple[str, ...] = Field(min_length=1, description="The benchmark's own first.")
    splits: tuple[Split, ...] = Field(min_length=1)
    published: tuple[Published, ...]
    verified_on: str = Field(description="Which bytes its reader and splits were tried on.")
    known_issues: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        named = {split.variant for split in self.splits} | {figure.variant for figure in self.published}
        if unknown := named - {None} - set(self.variants):
            raise ValueError(f"{self.name}: variants {sorted(map(str, unknown))} are not among its own")
        for split in self.splits:
            if self.n is not None and split.by != "region" and split.total not in {None, self.n}:
                raise ValueError(
                    f"{self.name}: split {split.scheme} has {split.total} samples instead of {self.n}"
                )
        return self

    def split(self, scheme: str, variant: str | None = None) -> Split:
        """Return a split by its name.

        Raises
        ------
        DataError
            When the task has no such split.
        """
        for split in self.splits:
            if (split.scheme, split.variant) == (scheme, variant):
                return split
        known = ", ".join(f"{s.scheme} ({s.variant})" if s.variant else s.scheme for s in self.splits)
        raise DataError(
            f"task {self.name!r} has no split {scheme!r} for variant {variant!r}; it has {known}."
        )


class _Registry(_Typed):
    citation: str
    tasks: tuple[Task, ...]


def load_tasks(path: str | Path | None = None) -> dict[str, Task]:
    """Return the fifteen tasks by name, in the paper's order.

    Parameters
    ----------
    path : str or Path, optional
        Another registry than the project's ``data_manifests/tasks.yaml``.

    Raises
    ------
    FileFormatError
        When the file is not YAML, or a field is missing, unknown or of the wrong kind.
    DataError
        When there is no registry.
    """
    if path is None:
        found = [folder / TASKS_FILE for folder in MANIFEST_FOLDERS if (folder / TASKS_FILE).is_file()]
        if not found:
            raise DataError(f"no {TASKS_FILE} in data_manifests/; run from the project's folder.")
        path = found[0]
    return dict(_read(Path(path).resolve()))


def find_task(name: str) -> Task:
    """Return the task of a name, or of the name of one of its variants.

    Raises
    ------
    DataError
        When there is none.
    """
    tasks = load_tasks()
    for task in tasks.values():
        if name in {task.name, *task.variants}:
            return task
    raise DataError(f"no task is called {name!r}; there are {', '.join(tasks)}.")


@cache
def _read(path: Path) -> dict[str, Task]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        registry = _Registry.model_validate(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise FileFormatError(f"{path}: not a registry of tasks: {problems}") from error
    tasks = sorted(registry.tasks, key=lambda task: (task.sdg, task.number))
    if len({task.name for task in tasks}) != len(tasks):
        raise FileFormatError(f"{path}: a task is listed twice.")
    return {task.name: task for task in tasks}
