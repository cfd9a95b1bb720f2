"""Bytes moved and compared, buffers held, and main memory read: what needs libraries."""
