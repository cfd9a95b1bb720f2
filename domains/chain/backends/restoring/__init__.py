"""Faces restored: their networks, from file to device, and pictures whose faces they redraw.

`loading.load_restorer` and `restoring.restore` are the ways in. A network of its own is a
module here and one in `domains/model/backends/restorers`, which reads its file's header.
"""
