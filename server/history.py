"""The history of memory in tables: intervals that grow coarser with age, summed up by SQL.

Every reading is in exactly one interval: of a second at first, of a minute when it is ten
minutes old, of an hour when it is a day old. So sums over intervals count nothing twice.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from domains.memory.types import (
    History,
    Holder,
    HolderUsage,
    MemoryHolder,
    Place,
    Reading,
    Sample,
)
from server.journal_rows import Row

_HOST = "host"  # main memory; other places are ids of devices
_DAY = 86_400
# Resolution, the next coarser one, and the age in seconds at which one becomes the other.
_THINNED = ((1, 60, 600), (60, 3_600, _DAY))
_KEPT_SECONDS = 30 * _DAY
_THIN_SECONDS = 60
# What lies further ahead than this was written by a clock that was wrong.
_FUTURE_SECONDS = 7_200

# An insert that meets an interval which is there adds up with it.
_ADD_INTERVAL = (
    " ON CONFLICT (place, resolution, start) DO UPDATE SET"
    " samples = samples + excluded.samples,"
    " peak_bytes = max(peak_bytes, excluded.peak_bytes),"
    " sum_bytes = sum_bytes + excluded.sum_bytes,"
    " fragmentation = coalesce(max(fragmentation, excluded.fragmentation),"
    "   fragmentation, excluded.fragmentation),"
    " evictions = evictions + excluded.evictions,"
    " out_of_memory = out_of_memory + excluded.out_of_memory"
)
_ADD_OWNER = (
    " ON CONFLICT (place, resolution, start, owner) DO UPDATE SET"
    " peak_bytes = max(peak_bytes, excluded.peak_bytes),"
    " sum_bytes = sum_bytes + excluded.sum_bytes"
)
_PUT_INTERVAL = "INSERT INTO memory_intervals VALUES (?,?,?,?,?,?,?,?,?)" + _ADD_INTERVAL
_PUT_OWNER = "INSERT INTO memory_owners VALUES (?,?,?,?,?,?)" + _ADD_OWNER
_THIN = (
    "INSERT INTO memory_intervals SELECT place, :coarse, start / :coarse * :coarse,"
    " sum(samples), max(peak_bytes), sum(sum_bytes), max(fragmentation), sum(evictions),"
    " sum(out_of_memory) FROM memory_intervals WHERE resolution = :fine AND start < :before"
    " GROUP BY place, start / :coarse" + _ADD_INTERVAL,
    "INSERT INTO memory_owners SELECT place, :coarse, start / :coarse * :coarse, owner,"
    " max(peak_bytes), sum(sum_bytes) FROM memory_owners"
    " WHERE resolution = :fine AND start < :before"
    " GROUP BY place, start / :coarse, owner" + _ADD_OWNER,
)
_FORGET = "DELETE FROM {} WHERE resolution = ? AND start < ? OR start > ?"

# What counts of each interval that the window touches, in seconds; 0 without a reading.
_WINDOW = (
    "WITH part AS (SELECT *, sum_bytes / max(samples, 1) AS mean_bytes,"
    " min(min(start + resolution, :until) - max(start, :since), samples) AS seconds"
    " FROM memory_intervals WHERE start < :until AND start + resolution > :since) "
)
_TOTALS = (
    "SELECT place, max(peak_bytes), sum(evictions), sum(out_of_memory) FROM part GROUP BY place"
)
_SERIES = (
    "SELECT place, max(min(start), :since), max(peak_bytes), max(fragmentation) FROM part"
    " WHERE samples > 0 GROUP BY place, min("
    "  CAST((max(start, :since) - :since) * :points / (:until - :since) AS INTEGER),"
    "  :points - 1) ORDER BY 1, 2"
)
# The least value that a share of the time does not exceed. A rounding error of the sums
# must not skip the last one.
_PERCENTILE = (
    "SELECT place, min(value) FROM (SELECT place, {0} AS value,"
    " sum(seconds) OVER (PARTITION BY place ORDER BY {0}) AS reached,"
    " sum(seconds) OVER (PARTITION BY place) AS whole"
    " FROM part WHERE samples > 0 AND {0} IS NOT NULL)"
    " WHERE reached >= :share * whole * (1 - 1e-12) GROUP BY place"
)
_OWNERS = (
    "SELECT place, owner, total(held.sum_bytes * 1.0 / samples * seconds) / ("
    "  SELECT sum(seconds) FROM part AS every WHERE every.place = part.place),"
    " max(held.peak_bytes) AS peak"
    " FROM part JOIN memory_owners AS held USING (place, resolution, start)"
    " GROUP BY place, owner ORDER BY place, peak DESC, owner"
)
_MOST_HOLDERS = 64
"""Of a place that are told: those that held most."""
_NO_MODELS = {holder.value: holder for holder in MemoryHolder}


class HistoryTables:
    """The two tables of one connection; the caller begins and ends transactions.

    Args:
        connection: To a database that has the tables.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thinned = 0.0

    def add(self, moment: float, readings: Iterable[Reading]) -> None:
        """Take in what was read at `moment` (seconds since 1970), and thin now and then."""
        start = int(moment)
        intervals, owners = [], []
        for one in readings:
            place, used = one.place.device_id or _HOST, one.used_bytes or 0
            samples = int(one.used_bytes is not None)
            key = (place, 1, start)
            counts = (one.evictions, one.out_of_memory)
            intervals.append((*key, samples, used, used, one.fragmentation, *counts))
            owners += [(*key, _stored(who), held, held) for who, held in one.holders.items()]
        self.put(intervals, owners)
        if not 0 <= moment - self._thinned < _THIN_SECONDS:
            self._thinned = moment
            self._thin(moment)

    def put(self, intervals: Sequence[Row], owners: Sequence[Row]) -> None:
        """Take rows in, of this form; what is there already adds up with them."""
        self._connection.executemany(_PUT_INTERVAL, intervals)
        self._connection.executemany(_PUT_OWNER, owners)

    def _thin(self, now: float) -> None:
        """Make old intervals coarser, and forget those that are too old."""
        future = now + _FUTURE_SECONDS
        ends = [(3_600, int(now) - _KEPT_SECONDS, future)]
        for fine, coarse, age in _THINNED:
            before = (int(now) - age) // coarse * coarse  # whole coarse intervals
            for statement in _THIN:
                values = {"fine": fine, "coarse": coarse, "before": before}
                self._connection.execute(statement, values)
            ends.append((fine, before, future))
        for end in ends:
            for table in ("memory_intervals", "memory_owners"):
                self._connection.execute(_FORGET.format(table), end)

    def histories(self, since: float, until: float, points: int) -> tuple[History, ...]:
        """Every place of which there is a history, main memory first; see `HistoryStore`."""
        window = {"since": since, "until": until, "points": points}

        def select(query: str, **more: float) -> list[Any]:
            return self._connection.execute(_WINDOW + query, window | more).fetchall()

        samples: dict[object, list[Sample]] = defaultdict(list)
        for place, moment, peak, fragmentation in select(_SERIES):
            when = datetime.fromtimestamp(moment, UTC)
            samples[place].append(Sample(when, peak, fragmentation))
        holders: dict[object, list[HolderUsage]] = defaultdict(list)
        for place, owner, mean, peak in select(_OWNERS):
            holders[place].append(HolderUsage(_holder(owner), round(mean), peak))
        half = dict(select(_PERCENTILE.format("mean_bytes"), share=0.50))
        most = dict(select(_PERCENTILE.format("peak_bytes"), share=0.95))
        fragmentation = dict(select(_PERCENTILE.format("fragmentation"), share=0.95))
        totals = {place: values for place, *values in select(_TOTALS)}
        places = self._connection.execute("SELECT DISTINCT place FROM memory_intervals")
        found = []
        for place in sorted((one for (one,) in places), key=lambda one: (one != _HOST, one)):
            peak, evictions, out_of_memory = totals.get(place, (0, 0, 0))
            found.append(
                History(
                    place=Place() if place == _HOST else Place(place),
                    samples=tuple(samples[place]),
                    peak_bytes=peak,
                    p50_bytes=half.get(place, 0),
                    p95_bytes=most.get(place, 0),
                    holders=tuple(holders[place][:_MOST_HOLDERS]),
                    eviction_count=evictions,
                    out_of_memory_count=out_of_memory,
                    fragmentation_p95=fragmentation.get(place),
                )
            )
        return tuple(found)


def _stored(holder: Holder) -> str:
    return holder.value if isinstance(holder, MemoryHolder) else holder


def _holder(stored: str) -> Holder:
    return _NO_MODELS.get(stored, stored)
