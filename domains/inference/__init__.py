"""Image generation: what is asked for, checked and resolved, and the engine that draws it.

Inference owns the denoising loop and everything that conditions it. It waits in the
queues of processing, finds models through the catalogue and runs on a device's worker
through a port; it keeps no pictures.
"""
