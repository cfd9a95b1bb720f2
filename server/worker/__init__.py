"""Worker processes: one per device, supervised from the front, killed when they hang.

The front's side is `pool` (the devices' workers), `supervisor` (one life of one worker)
and `restart` (when to try again); the child's side is `loop`. `link` and `messages` are
what they say to each other. Only the child imports torch. What a worker says is not
trusted: a frame that breaks the rules ends the worker.
"""
