"""Cut a release: one commit on the branch `release`, which is what users clone, and a tag.

    python -m tools.release 0.2.0

The commit has the files of HEAD, and the release before it as its only parent: whoever clones the branch gets the
weights of the versions, and none of those that development left behind. Nothing is pushed. See docs/release.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import environment

BRANCH = "release"
OWNER = "OWNER"  # in the addresses of pyproject.toml until there is a public repository


def release(version: str, repository: Path) -> str:
    """Commit HEAD's files to the release branch, tag them, and return the tag.

    Raises:
        environment.UserError: If something has to be done first; the message says what.
    """
    _check(version, repository)
    tag = f"v{version}"
    previous = _git(repository, "rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}", check=False)
    parent = ("-p", previous) if previous else ()
    commit = _git(repository, "commit-tree", "HEAD^{tree}", *parent, "-m", f"Version {version}")
    _git(repository, "update-ref", f"refs/heads/{BRANCH}", commit, *([previous] if previous else []))
    _git(repository, "tag", "-a", tag, commit, "-m", f"Version {version}")
    return tag


def _check(version: str, repository: Path) -> None:
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise environment.UserError(f"{version} is not a version: the registry wants three numbers, such as 0.2.0.")
    if _git(repository, "status", "--porcelain"):
        raise environment.UserError("There are uncommitted changes: commit or stash them.")
    if _git(repository, "tag", "--list", f"v{version}"):
        raise environment.UserError(f"Version {version} is released already: choose the next one.")
    project = (repository / "pyproject.toml").read_text("utf-8")
    if f'\nversion = "{version}"\n' not in project:
        raise environment.UserError(f"pyproject.toml states another version: set it to {version} and commit that.")
    if f"/{OWNER}/" in project:
        raise environment.UserError(
            f"pyproject.toml names no public repository yet: replace {OWNER} in its addresses and commit that."
        )
    if f"\n## [{version}]" not in (repository / "CHANGELOG.md").read_text("utf-8"):
        raise environment.UserError(f"CHANGELOG.md has no section [{version}]: rename [Unreleased] to it.")


def _git(repository: Path, *arguments: str, check: bool = True) -> str:
    run = subprocess.run(["git", *arguments], cwd=repository, check=check, stdout=subprocess.PIPE, text=True)
    return run.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="tools.release", description="Cut a release; nothing is pushed.")
    parser.add_argument("version", metavar="VERSION", help="the version that pyproject.toml states, such as 0.2.0")
    options = parser.parse_args(arguments)
    try:
        tag = release(options.version, environment.REPO)
    except environment.UserError as error:
        print(f"tools.release: {error}", file=sys.stderr)
        return 1
    print(f"Look at it, then publish it:\n  git push origin {BRANCH} {tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
