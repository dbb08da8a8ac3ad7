"""Writes one page a task from the registry and the manifests: ``python docs/task_pages.py``."""

from pathlib import Path

from sustain.data.catalogue.manifest import load_manifest
from sustain.data.catalogue.registry import Task, load_tasks
from sustain.data.fetch.inventory import how_to_get, size_of
from sustain.data.sustainbench.card import task_card
from sustain.files import write_text

FOLDER = Path(__file__).parent / "tasks"
INTRODUCTION = """# The fifteen tasks

SustainBench (Yeh et al. 2021) asks fifteen questions that satellites might answer, for seven of the Sustainable
Development Goals. Each has a page: what is asked, from which files, how they are divided, which figures others
published, and what is known to be wrong. The pages say what `sustain data info TASK` says.

| goal | task | source | size | how to get it | verified on |
|---|---|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """Text of every page by its file name."""
    tasks = load_tasks().values()
    texts = {f"{task.name}.md": page(task) for task in tasks}
    rows = []
    for task in tasks:
        manifest = load_manifest(task.source)
        cells = [
            f"SDG {task.sdg}",
            f"[{task.title}]({task.name}.md)",
            f"`{task.source}`",
            size_of(manifest),
            how_to_get(manifest),
            task.verified_on,
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    return {"index.md": INTRODUCTION + "".join(rows)} | texts


def page(task: Task) -> str:
    """Text of one page."""
    name = task.variants[0] if task.name == "sdg2-croptype-africa" else task.name
    manifest = load_manifest(task.source)
    get = f"sustain data add {task.source} --from PATH"
    if how_to_get(manifest) != "by hand":
        get = f"sustain data fetch {task.source}     # or: {get}"
    use = f"""
## Use

```console
$ {get}
$ sustain data ingest {task.source}
```

```python
from sustain.data.sustainbench.tasks import open_task

train = open_task("{name}", "data/sustainbench", split="train")
train.plot(train[0])
```
"""
    return task_card(task, manifest) + use


if __name__ == "__main__":
    for file_name, text in pages().items():
        write_text(FOLDER / file_name, text)
