"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# Vector units by the names of Linux, the quickest first: processors of one model name differ twofold by them.
_UNITS = {"avx512_bf16": "AVX-512 with bfloat16", "avx512f": "AVX-512", "avx2": "AVX2"}


def processor() -> str:
    """The processor by its own name, where the system tells it, with its cores and vector units."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    units = next((words for flag, words in _UNITS.items() if flag in flags), None)
    return ", ".join(
        filter(None, [facts.get("model name", platform.machine()), f"{os.cpu_count()} cores", units])
    )
