"""Which folders lie on drives whose changes the system does not tell of."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

# Of these, only what this machine itself changes is told.
_REMOTE = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ncpfs", "9p", "drvfs"),
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "vboxsf", "prl_fs", "vmhgfs"),
        *("virtiofs", "webdav", "afpfs", "osxfuse", "macfuse"),
    }
)


def network_drive(folder: Path) -> str:
    """The kind of network drive that a folder lies on; empty for a drive of this machine, and
    where the system does not say. May block for as long as the drive does."""
    path = os.path.realpath(folder)
    if path.startswith("\\\\"):
        return "smb"
    try:
        drives = psutil.disk_partitions(all=True)
    except OSError:
        return ""
    for drive in sorted(drives, key=lambda drive: len(drive.mountpoint), reverse=True):
        mount = drive.mountpoint.rstrip(os.sep)
        if os.path.normcase(path + os.sep).startswith(os.path.normcase(mount + os.sep)):
            remote = drive.fstype in _REMOTE or drive.fstype.startswith("fuse.")
            return drive.fstype if remote or "remote" in drive.opts.split(",") else ""
    return ""
