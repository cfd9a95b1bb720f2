"""The kinds of single-file checkpoints: a module for each family that is drawn with."""
