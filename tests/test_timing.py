"""What a record says of the code that made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from minrnn.timing import _commit


def test_the_commit_is_dirty_by_changes_of_code_and_not_of_results(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, "-C", str(tmp_path), *words], capture_output=True, text=True).stdout

    code, result, new = tmp_path / "src" / "code.py", tmp_path / "results" / "one.json", tmp_path / "src" / "new.py"
    for path in (code, result):
        path.parent.mkdir()
        path.write_text("1")
    git("init", "-q")
    assert _commit(code) is None
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")[:10]
    result.write_text("2")
    assert _commit(code) == commit
    new.write_text("3")
    assert _commit(new) is None
    code.write_text("2")
    assert _commit(code) == f"{commit}-dirty"
