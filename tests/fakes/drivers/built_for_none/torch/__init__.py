"""Nobody may import it."""

raise ImportError("it was imported")
