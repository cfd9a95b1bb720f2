"""The cache of models between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import model_cache_pb2
from domains.conversions import digest, timestamp
from domains.model.types import CachedModelInfo, CacheRequest, CacheStatus
from domains.session.convert import options_from_proto

_MOST_ENTRIES = 1000
_LONGEST_REMARK = 256


def cache_from_proto(message: model_cache_pb2.CacheModelRequest) -> CacheRequest:
    """What to read into main memory, as a client sent it."""
    return CacheRequest(
        message.model_id, message.pinned, options_from_proto(message.options), digest(message)
    )


def entry_to_proto(entry: CachedModelInfo) -> model_cache_pb2.CacheEntry:
    """One cached model."""
    return model_cache_pb2.CacheEntry(
        model_id=entry.model_id,
        size_bytes=entry.size_bytes,
        last_use_time=timestamp(entry.last_use_time),
        pinned=entry.pinned,
        hit_count=entry.hit_count,
    )


def cache_to_proto(status: CacheStatus) -> model_cache_pb2.GetCacheStatusResponse:
    """What the cache holds and how well it works."""
    return model_cache_pb2.GetCacheStatusResponse(
        entries=[entry_to_proto(entry) for entry in status.entries[:_MOST_ENTRIES]],
        used_bytes=status.used_bytes,
        budget_bytes=status.budget_bytes,
        hit_count=status.hit_count,
        miss_count=status.miss_count,
        eviction_count=status.eviction_count,
        shared=status.shared,
        page_locked=status.page_locked,
        remark=status.remark[:_LONGEST_REMARK],
    )
