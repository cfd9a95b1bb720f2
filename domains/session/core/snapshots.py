"""How a session stands, for those who look from outside."""

from __future__ import annotations

from domains.session.core.session import Session
from domains.session.views import SessionSnapshot


def snapshot_of(session: Session) -> SessionSnapshot:
    """The session as it stands now."""
    return SessionSnapshot(
        session_id=session.session_id,
        kind=session.kind,
        state=session.state,
        phase=session.phase,
        device_id=session.device_id,
        model_id=session.model_id,
        queue_position=session.queue_position,
        progress=session.progress,
        first_sequence=session.log.first_sequence,
        last_sequence=session.log.last_sequence,
        create_time=session.create_time,
        start_time=session.times.start_time,
        end_time=session.times.end_time,
        expire_time=session.expire_time,
        options=session.options,
        failure=session.failure,
        images=session.images,
        owner=session.owner,
        parent_session_id=session.parent_session_id,
        estimated_start_time=session.estimated_start_time,
        estimated_end_time=session.estimated_end_time,
        peak_memory=session.peak_memory,
        placement=session.placement,
        retry_count=session.retry_count,
        method=session.about.method,
    )
