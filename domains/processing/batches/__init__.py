"""Durable batches: many items that are kept on disk, each drawn by a session of its own.

What an item draws is a message of the contract, which nothing here looks into: a port lays it
over the batch's template, checks it and makes its session.
"""
