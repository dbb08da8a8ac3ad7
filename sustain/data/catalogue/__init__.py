"""What data there are: manifests, and the terms of their sources."""
