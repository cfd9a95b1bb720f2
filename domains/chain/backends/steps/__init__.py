"""The classical steps, a module each: pure functions of pixels that need no model."""
