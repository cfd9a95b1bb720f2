"""Batches: their items, what runs next, what is kept."""
