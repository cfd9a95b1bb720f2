"""Measures what each committed artefact does: `python -m demo.measure`."""
