"""One script per artefact of the demo family; `python -m demo.train.<script> --help`."""
