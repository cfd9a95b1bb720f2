"""Windows: a job object that ends a worker with the front, even when the front is killed.

Elsewhere it does nothing; Linux has a signal for that (see `parent_death`). Written from
the documentation of the Win32 functions; it has not run on Windows yet.
"""

from __future__ import annotations

import subprocess
import sys

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _EXTENDED_LIMIT_INFORMATION = 9
    _KILL_ON_JOB_CLOSE = 0x2000
    _PROCESS_TIME = 0x2
    _PROCESS_MEMORY = 0x100
    _TICKS_PER_SECOND = 10_000_000

    class _BasicLimits(ctypes.Structure):
        _fields_ = (
            ("PerProcessUserTimeLimit", wintypes.LARGE_INTEGER),
            ("PerJobUserTimeLimit", wintypes.LARGE_INTEGER),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        )

    class _IoCounters(ctypes.Structure):
        _fields_ = tuple(
            (name, ctypes.c_ulonglong)
            for name in (
                "ReadOperationCount",
                "WriteOperationCount",
                "OtherOperationCount",
                "ReadTransferCount",
                "WriteTransferCount",
                "OtherTransferCount",
            )
        )

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", _IoCounters),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    def _kernel() -> ctypes.WinDLL:
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateJobObjectW.restype = wintypes.HANDLE
        kernel.CreateJobObjectW.argtypes = [ctypes.c_void_p, wintypes.LPCWSTR]
        kernel.SetInformationJobObject.restype = wintypes.BOOL
        kernel.SetInformationJobObject.argtypes = [
            wintypes.HANDLE,
            ctypes.c_int,
            ctypes.c_void_p,
            wintypes.DWORD,
        ]
        kernel.AssignProcessToJobObject.restype = wintypes.BOOL
        kernel.AssignProcessToJobObject.argtypes = [wintypes.HANDLE, wintypes.HANDLE]
        kernel.TerminateJobObject.restype = wintypes.BOOL
        kernel.TerminateJobObject.argtypes = [wintypes.HANDLE, wintypes.UINT]
        kernel.CloseHandle.restype = wintypes.BOOL
        kernel.CloseHandle.argtypes = [wintypes.HANDLE]
        return kernel

    class KillOnCloseJob:
        """A job whose processes end when its only handle is closed: with the front.

        Args:
            memory_bytes: The most that each of them may commit; 0: no limit.
            cpu_seconds: The most that each may compute; 0: no limit.

        Raises:
            OSError: Windows refuses.
        """

        def __init__(self, memory_bytes: int = 0, cpu_seconds: int = 0) -> None:
            self._kernel = _kernel()
            self._handle: int | None = self._kernel.CreateJobObjectW(None, None)
            if not self._handle:
                raise ctypes.WinError(ctypes.get_last_error())
            limits = _ExtendedLimits()
            flags = _KILL_ON_JOB_CLOSE
            if memory_bytes:
                flags |= _PROCESS_MEMORY
                limits.ProcessMemoryLimit = memory_bytes
            if cpu_seconds:
                flags |= _PROCESS_TIME
                ticks = cpu_seconds * _TICKS_PER_SECOND
                limits.BasicLimitInformation.PerProcessUserTimeLimit = ticks
            limits.BasicLimitInformation.LimitFlags = flags
            if not self._kernel.SetInformationJobObject(
                self._handle,
                _EXTENDED_LIMIT_INFORMATION,
                ctypes.byref(limits),
                ctypes.sizeof(limits),
            ):
                error = ctypes.WinError(ctypes.get_last_error())
                self.close()
                raise error

        def assign(self, process: subprocess.Popen[bytes]) -> None:
            """Put the process, and what it starts from now on, into the job."""
            handle = int(process._handle)  # type: ignore[attr-defined]
            if not self._kernel.AssignProcessToJobObject(self._handle, handle):
                error = ctypes.WinError(ctypes.get_last_error())
                process.kill()
                raise error

        def terminate(self) -> None:
            """End every process of the job."""
            if self._handle:
                self._kernel.TerminateJobObject(self._handle, 1)

        def close(self) -> None:
            """Give the handle back; ends what is still in the job."""
            handle, self._handle = self._handle, None
            if handle:
                self._kernel.CloseHandle(handle)

else:

    class KillOnCloseJob:
        """Nothing: other systems have other means."""

        def __init__(self, memory_bytes: int = 0, cpu_seconds: int = 0) -> None:
            """Nothing to do: a process limits itself there."""

        def assign(self, process: subprocess.Popen[bytes]) -> None:
            """Nothing to do."""

        def terminate(self) -> None:
            """Nothing to do."""

        def close(self) -> None:
            """Nothing to do."""
