"""Control of sessions of every kind; workflows and batches, which are made of sessions.

It never imports a domain that does the work. Workflows and batches will reach those
through ports.
"""
