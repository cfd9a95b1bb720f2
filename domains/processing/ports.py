"""Ports of processing: sessions are all it needs so far, and they are plain values."""
