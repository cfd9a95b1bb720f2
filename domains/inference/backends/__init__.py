"""Drawing pictures with torch: the engine that runs inside a device's worker.

`engine.Engine` is the way in. The denoising loop is this package's own; networks and
schedulers are diffusers' and transformers'. What differs between model families is in
`families/`, one module each.
"""
