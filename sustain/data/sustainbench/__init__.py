"""SustainBench: readers of its published files, one module a source, and its tasks by name.

>>> from sustain.data.sustainbench import ingest, open_task
>>> ingest("kenya", raw="data/raw/kenya", root="data/sustainbench")  # doctest: +SKIP
>>> train = open_task("sdg2-croptype-kenya", "data/sustainbench", split="train")  # doctest: +SKIP
"""

from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.sustainbench.metrics import MetricResult
from sustain.data.sustainbench.tasks import ingest, metrics_of, open_task, schemes_of, score

__all__ = ["MetricResult", "TaskDataset", "ingest", "metrics_of", "open_task", "schemes_of", "score"]
