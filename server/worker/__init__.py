"""Worker processes: one per device, supervised from the front, killed when they hang.

`front` runs in the server's process, `child` in a worker's, `link` in both. Only the child
imports torch; it imports neither gRPC nor protobuf. What a worker says is not trusted: a
frame that breaks the rules ends the worker.
"""
