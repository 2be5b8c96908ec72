"""Cutting a release: what has to be right before it, and what the branch then holds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.environment import UserError
from tools.release import BRANCH, release

PROJECT = '[project]\nname = "x"\nversion = "{}"\n[project.urls]\nRepository = "https://example.org/{}/x"\n'


def git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return run.stdout.strip()


def commit(folder: Path, version: str, *, weights: str = "", owner: str = "somebody", sections: str = "") -> None:
    (folder / "pyproject.toml").write_text(PROJECT.format(version, owner), "utf-8")
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## [Unreleased]\n{sections or f'## [{version}]'}\n", "utf-8")
    (folder / "weights").write_text(weights or version, "utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", f"Work on {version} {weights}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.email", "test@example.org")
    git(folder, "config", "user.name", "Test")
    return folder


def test_the_branch_has_one_commit_for_each_version_and_no_file_of_between(repository: Path, tmp_path: Path) -> None:
    commit(repository, "0.1.0", weights="tried")
    commit(repository, "0.1.0")
    assert release("0.1.0", repository) == "v0.1.0"
    commit(repository, "0.2.0", weights="tried again")
    commit(repository, "0.2.0")
    release("0.2.0", repository)

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--single-branch", "-b", BRANCH, repository.as_uri(), str(clone))
    assert git(clone, "log", "--format=%s").splitlines() == ["Version 0.2.0", "Version 0.1.0"]
    assert (clone / "weights").read_text("utf-8") == "0.2.0"
    kinds = git(clone, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)").splitlines()
    blobs = {git(clone, "cat-file", "-p", name) for name, kind in map(str.split, kinds) if kind == "blob"}
    assert {"0.1.0", "0.2.0"} <= blobs and not {"tried", "tried again"} & blobs
    assert git(repository, "diff", "main", BRANCH) == "" == git(repository, "status", "--porcelain")
    assert git(repository, "rev-parse", "v0.2.0^{commit}") == git(repository, "rev-parse", BRANCH)


@pytest.mark.parametrize(
    ("version", "state", "message"),
    [
        ("0.2", {}, "three numbers"),
        ("0.3.0", {}, "states another version: set it to 0.3.0"),
        ("0.2.0", {"owner": "OWNER"}, "replace OWNER"),
        ("0.2.0", {"sections": "## [0.1.0]"}, r"no section \[0.2.0\]"),
    ],
)
def test_what_is_missing_for_a_release_is_told(
    version: str, state: dict[str, str], message: str, repository: Path
) -> None:
    commit(repository, "0.2.0", **state)
    with pytest.raises(UserError, match=message):
        release(version, repository)
    assert git(repository, "branch", "--list", BRANCH) == ""


def test_a_version_is_released_once_and_from_a_clean_tree(repository: Path) -> None:
    commit(repository, "0.2.0")
    release("0.2.0", repository)
    with pytest.raises(UserError, match="released already"):
        release("0.2.0", repository)
    (repository / "weights").write_text("changed", "utf-8")
    with pytest.raises(UserError, match="uncommitted changes"):
        release("0.2.0", repository)
