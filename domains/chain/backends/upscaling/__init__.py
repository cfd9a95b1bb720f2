"""Upscalers: their networks, from file to device, and pictures enlarged with them in tiles.

`loading.load_upscaler` and `enlarging.enlarge` are the ways in. A network of its own is a
module here and one in `domains/model/backends/upscalers`, which reads its file's header.
"""
