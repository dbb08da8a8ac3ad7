"""Labels in the trial: effects and tests that rest on them."""
