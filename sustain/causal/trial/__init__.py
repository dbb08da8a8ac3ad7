"""A trial as its team describes it: columns by their role, and the units that can be used."""
