"""Sessions: accepted work of every kind, its queues, its numbered events, its control.

Processing owns when work runs and what is known about it; it does none of the work and
never imports a domain that does. Workflows and batches will reach those through ports.
"""
