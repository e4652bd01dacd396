"""What a process of ours takes of the machine."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = resource.getpagesize()


def resident_memory() -> int:
    """Bytes of memory that this process has in RAM; 0 where the system does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def cpu_time() -> int:
    """Ns of CPU that this process has used, user and system, all threads."""
    return time.process_time_ns()
