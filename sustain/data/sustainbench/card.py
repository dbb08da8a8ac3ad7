"""A task's card: what it asks, from what, judged how, how good others were, what is wrong with it. Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sustain.data.catalogue.manifest import Manifest
from sustain.data.catalogue.registry import Published, Split, Task
from sustain.data.fetch.inventory import how_to_get, size_of

__all__ = ["source_card", "task_card"]

_ALLOWED: dict[bool | None, str] = {True: "yes", False: "no, and published tables leave them out"}
_COMPARABLE = {True: "yes", False: "no", None: "not known"}


def task_card(task: Task, manifest: Manifest) -> str:
    """Return the card of a task and its source.

    Parameters
    ----------
    task : Task
    manifest : Manifest
        The manifest that `task.source` names.
    """
    image = " x ".join("?" if side is None else str(side) for side in task.image.shape)
    facts = {
        "goal": f"SDG {task.sdg} (task {task.number} of the paper)",
        "kind": task.kind.replace("-", " "),
        "source": f"`{task.source}`"
        + (f", optionally `{task.optional_source}`" if task.optional_source else ""),
        "image": f"{image}, {task.image.dtype or 'type not seen'}; {', '.join(task.image.bands)}",
        "imagery": task.image.note or "",
        "label": _label(task),
        "metrics": ", ".join(task.metrics),
        "verified on": task.verified_on,
    }
    lines = [f"# {task.title}", "", f"`{task.name}`", *(f"also: `{name}`" for name in task.variants), ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items() if fact]
    lines += ["", "## Splits", ""]
    lines += _table(("scheme", "variant", "status", "train", "val", "test", "note"), map(_split, task.splits))
    lines += ["", "## Published figures", ""]
    if task.published:
        header = ("metric", "variant", "value", "rerun by others", "model", "comparable", "note")
        lines += _table(header, map(_figure, task.published))
    else:
        lines += ["None that could be found."]
    if task.known_issues:
        lines += ["", "## Known issues of the task", "", *(f"- {issue}" for issue in task.known_issues)]
    return "\n".join(lines) + "\n\n" + source_card(manifest, level=2)


def source_card(manifest: Manifest, level: int = 1) -> str:
    """Return the card of a source: files, sizes, terms, citation, known issues.

    Parameters
    ----------
    manifest : Manifest
    level : int
        Level of its heading.
    """
    marks = "#" * level
    lines = [f"{marks} Source `{manifest.name}`", "", f"{manifest.title}.", ""]
    lines += [manifest.description, ""] if manifest.description else []
    facts = {
        "size": size_of(manifest),
        "how to get it": how_to_get(manifest) + _folder(manifest),
        "licence": manifest.licence or "none stated",
        "terms of those whose data went in": manifest.upstream_terms,
        "coordinates and cluster ids may be passed on": _ALLOWED.get(manifest.redistribute_coordinates),
        "citation": manifest.citation,
    }
    lines += [f"- {name}: {fact}" for name, fact in facts.items() if fact]
    shown = manifest.files[:12]
    if shown:
        rows = (
            (
                f"`{file.path}`",
                f"{file.size:,}" if file.size is not None else "not known",
                (file.sha256 or "not published")[:13],
                file.title or "",
            )
            for file in shown
        )
        lines += ["", *_table(("file", "bytes", "sha256", "holds"), rows)]
    if left := len(manifest.files) - len(shown):
        lines += ["", f"and {left} more files."]
    if manifest.known_issues:
        lines += ["", f"{marks}# Known issues of the source", ""]
        lines += [f"- {issue}" for issue in manifest.known_issues]
    return "\n".join(lines) + "\n"


def _label(task: Task) -> str:
    label = task.label
    classes = [("", label.classes), *label.classes_by_variant.items()]
    named = [
        (f"{variant}: " if variant else "") + ", ".join(f"{code} {name}" for code, name in codes.items())
        for variant, codes in classes
        if codes
    ]
    parts = [
        f"`{label.column}`" if label.column else "",
        f"in {label.unit}" if label.unit else "",
        f"observations in `{label.n_column}`" if label.n_column else "",
        f"one of {', '.join(label.variants)}" if label.variants else "",
        *named,
        f"{label.n_classes} classes" if label.n_classes else "",
        label.note or "",
    ]
    return "; ".join(part for part in parts if part)


def _split(split: Split) -> tuple[str, ...]:
    counts = [
        "none" if part not in split.counts else "not known" if n is None else f"{n:,}"
        for part, n in ((part, split.counts.get(part)) for part in ("train", "val", "test"))
    ]
    notes = [
        f"never divides a {split.by}." if split.by else "",
        "Counts follow from a rule; the files were not opened." if split.derived else "",
        split.note or "",
    ]
    return split.scheme, split.variant or "", split.status, *counts, " ".join(note for note in notes if note)


def _figure(figure: Published) -> tuple[str, ...]:
    rerun = "" if figure.rerun is None else f"{figure.rerun:g}"
    comparable = _COMPARABLE[figure.comparable]
    return (
        figure.metric,
        figure.variant or "",
        f"{figure.value:g}",
        rerun,
        figure.model,
        comparable,
        figure.note or "",
    )


def _folder(manifest: Manifest) -> str:
    return f" (folder: {manifest.folder_address})" if manifest.folder_address else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table without the columns that are empty in every row."""
    given = [tuple(row) for row in rows]
    kept = [i for i in range(len(header)) if any(row[i] for row in given)]
    lines = [[header[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in given)]
    return [f"| {' | '.join(line)} |" for line in lines]
