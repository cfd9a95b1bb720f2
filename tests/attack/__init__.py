"""Long attacks on the whole: bounded in time, the same with each run."""
