"""The machine that a benchmark ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from ..version import __version__

PACKAGES = ("torch", "transformers", "diffusers")


def describe(device: str, threads: int) -> dict[str, str | int]:
    """Return the machine, the versions of the libraries that matter, and the device."""
    import torch

    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": threads,
        "device": device,
        "m3adapter": __version__,
        "commit": _commit(),
    }
    if name := getattr(torch.get_device_module(torch.device(device)), "get_device_name", None):
        found["device"] = name(torch.device(device))
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def sentence(machine: dict[str, str | int]) -> str:
    """Return the machine in one line."""
    where = "" if machine["device"] == "cpu" else f", {machine['device']}"
    versions = ", ".join(f"{package} {machine[package]}" for package in PACKAGES)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['instructions']}{where}; {versions}; "
        f"threads {machine['threads']}; commit {machine['commit']}"
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit of the working tree, with a plus sign if files differ from it; "none" outside of git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return "none"
    return done.stdout.strip() or "none"
