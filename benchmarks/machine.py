"""Where a benchmark ran: processor, system, versions."""

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "torch", "numpy")


def describe() -> dict[str, str]:
    """What must be known to compare results, by name."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    """Its name, and what it has for bfloat16."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in text.splitlines())
    values = {key.strip(): value.strip() for key, _, value in lines}
    flags = values.get("flags", values.get("Features", "")).split()
    name = values.get("model name", platform.machine())
    bfloat16 = sorted(flag for flag in flags if "bf16" in flag)
    return f"{name} ({', '.join(bfloat16) or 'no bfloat16'})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
