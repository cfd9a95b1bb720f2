"""Memory: how much there is, in main memory and on devices, and where each figure is from.

Memory owns the figures; it refuses to invent them: what a platform does not report is
unknown, with the reason in its source. Which models are kept is the model domain's.
"""
