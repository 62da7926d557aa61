"""How much memory there is."""

from pathlib import Path


def free() -> float:
    """Bytes that can still be had; infinite where nothing tells.

    A limit of the container counts where control groups (version 2) show it at their root; those
    of a batch job or of a service do not show there.
    """
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024.0 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable")]
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        stat = dict(x.split() for x in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(stat["inactive_file"])
        found += [] if limit == "max" else [float(int(limit) - used)]
    except (OSError, ValueError, KeyError):
        pass  # another system, or no container
    return max(min(found, default=float("inf")), 0.0)
