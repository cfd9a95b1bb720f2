"""Workers on other machines, reached through Ray: see `docs/machines.md`.

`carrier` and `look` are programs that the front starts; `node_worker` runs on the other
machine. Nothing here is imported by the front, so that it needs no Ray.
"""
