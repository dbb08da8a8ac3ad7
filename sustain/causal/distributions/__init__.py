"""Effects on the distribution of a mapped outcome: what is measured, by which designs, and what comes out."""

__all__: list[str] = []
