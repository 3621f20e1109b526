"""What a process holds in memory, told apart: its own, and pages of files that the system can take back."""

from __future__ import annotations

import re
from pathlib import Path


def resident() -> dict[str, float]:
    """Memory of this process by kind, 10^6 bytes; empty where the system does not tell."""
    status = Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    found = re.findall(r"^(RssAnon|RssFile):\s+(\d+) kB", text, re.MULTILINE)
    names = {"RssAnon": "rss_anon_mb", "RssFile": "rss_file_mb"}
    return {names[name]: int(size) * 1024 / 1e6 for name, size in found}
