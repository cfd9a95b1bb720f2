"""Memory orders and their answers over the worker link."""

from __future__ import annotations

from deviceops.worker.v1 import worker_pb2
from domains.memory.types import BufferRegion, Compare, Move, Region, Segment, SegmentRegion
from server.worker import frames
from server.worker.frames import ProtocolError
from server.worker.message_checks import within
from server.worker.message_errors import error_from_proto, error_to_proto
from server.worker.message_figures import MOST_BYTES


def order_to_proto(frame: frames.MemoryOrder) -> worker_pb2.MemoryOrder:
    """An order on its way to a worker."""
    message = worker_pb2.MemoryOrder(ticket=frame.ticket)
    match frame.order:
        case frames.AllocateBuffer(buffer_id, size):
            message.allocate.buffer_id = buffer_id
            message.allocate.size_bytes = size
        case frames.FreeBuffer(buffer_id):
            message.free.buffer_id = buffer_id
        case Move(source, target, length):
            message.move.source.CopyFrom(_region_to_proto(source))
            message.move.target.CopyFrom(_region_to_proto(target))
            message.move.length_bytes = length
        case Compare(first, second, length):
            message.compare.first.CopyFrom(_region_to_proto(first))
            message.compare.second.CopyFrom(_region_to_proto(second))
            message.compare.length_bytes = length
        case frames.Pin(segment):
            message.pin.CopyFrom(_segment_to_proto(segment))
        case frames.Unpin(segment):
            message.unpin.CopyFrom(_segment_to_proto(segment))
        case frames.ReleaseCached():
            message.release_cached.SetInParent()
    return message


def order_from_proto(message: worker_pb2.MemoryOrder) -> frames.MemoryOrder:
    """The inverse.

    Raises:
        ProtocolError: It is no order.
    """
    order: frames.Order
    match message.WhichOneof("order"):
        case "allocate":
            asked = message.allocate
            order = frames.AllocateBuffer(asked.buffer_id, asked.size_bytes)
        case "free":
            order = frames.FreeBuffer(message.free.buffer_id)
        case "move":
            move = message.move
            source, target = _region_from_proto(move.source), _region_from_proto(move.target)
            order = Move(source, target, move.length_bytes)
        case "compare":
            both = message.compare
            one, other = _region_from_proto(both.first), _region_from_proto(both.second)
            order = Compare(one, other, both.length_bytes)
        case "pin":
            order = frames.Pin(_segment_from_proto(message.pin))
        case "unpin":
            order = frames.Unpin(_segment_from_proto(message.unpin))
        case "release_cached":
            order = frames.ReleaseCached()
        case _:
            raise ProtocolError("a memory order of no kind")
    return frames.MemoryOrder(message.ticket, order)


def answer_to_proto(frame: frames.MemoryAnswer) -> worker_pb2.MemoryAnswer:
    """An answer on its way to the front."""
    message = worker_pb2.MemoryAnswer(ticket=frame.ticket)
    match frame.answer:
        case frames.MemoryProgress(done):
            message.progress.done_bytes = done
            message.progress.SetInParent()
        case frames.MemoryDone(done):
            message.done.done_bytes = done
            message.done.SetInParent()
        case error:
            message.failed.CopyFrom(error_to_proto(error))
    return message


def answer_from_proto(message: worker_pb2.MemoryAnswer) -> frames.MemoryAnswer:
    """The inverse.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    match message.WhichOneof("answer"):
        case "progress":
            done = within(message.progress.done_bytes, 0, MOST_BYTES, "done_bytes")
            return frames.MemoryAnswer(message.ticket, frames.MemoryProgress(done))
        case "done":
            done = within(message.done.done_bytes, 0, MOST_BYTES, "done_bytes")
            return frames.MemoryAnswer(message.ticket, frames.MemoryDone(done))
        case "failed":
            return frames.MemoryAnswer(message.ticket, error_from_proto(message.failed))
        case _:
            raise ProtocolError("a memory answer of no kind")


def _segment_to_proto(segment: Segment) -> worker_pb2.Segment:
    return worker_pb2.Segment(
        name=segment.name, size_bytes=segment.size_bytes, huge_pages=segment.huge_pages
    )


def _segment_from_proto(message: worker_pb2.Segment) -> Segment:
    return Segment(message.name, message.size_bytes, message.huge_pages)


def _region_to_proto(region: Region) -> worker_pb2.Region:
    if isinstance(region, BufferRegion):
        return worker_pb2.Region(buffer_id=region.buffer_id, offset_bytes=region.offset)
    return worker_pb2.Region(
        segment=_segment_to_proto(region.segment), offset_bytes=region.offset
    )


def _region_from_proto(message: worker_pb2.Region) -> Region:
    match message.WhichOneof("place"):
        case "buffer_id":
            return BufferRegion(message.buffer_id, message.offset_bytes)
        case "segment":
            return SegmentRegion(_segment_from_proto(message.segment), message.offset_bytes)
        case _:
            raise ProtocolError("a region of no kind")
