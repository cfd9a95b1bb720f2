"""Sessions of every kind: listed, watched and controlled."""
