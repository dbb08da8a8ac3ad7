"""The ground of all statistics: columns as users pass them, least squares, covariances, Fieller's sets."""
