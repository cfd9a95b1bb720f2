"""Networks as compiled code: made in a process apart, kept on disk, put in between requests.

Compiling a UNet takes one to two minutes, which nobody is to wait for, so a process beside the
worker does it. The weights are arguments of the code: who changes them in place needs no other.
"""
