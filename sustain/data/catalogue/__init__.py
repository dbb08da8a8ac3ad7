"""What data there are: the manifests of sources, the benchmark's tasks, and the terms that sources come under."""

from sustain.data.catalogue.manifest import Manifest, ManifestFile, load_manifest, manifest_names, verify
from sustain.data.catalogue.registry import Task, find_task, load_tasks
from sustain.data.catalogue.terms import may_publish_coordinates

__all__ = [
    "Manifest",
    "ManifestFile",
    "Task",
    "find_task",
    "load_manifest",
    "load_tasks",
    "manifest_names",
    "may_publish_coordinates",
    "verify",
]
