"""Looking for devices: one module per kind, run in processes of their own.

A driver may crash, hang or print when it is asked; the process it does that to answers
nothing else. Only the processor is looked at from the server's own process.
"""
