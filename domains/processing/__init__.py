"""Control of sessions of every kind; workflows and batches, which are made of sessions.

It never imports a domain that does the work. Batches reach those through a port,
and workflows will.
"""
