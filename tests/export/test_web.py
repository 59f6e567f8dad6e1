"""The page runs the model in a browser, and nothing of it comes from elsewhere."""

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import minrnn
from minrnn.commands import main
from minrnn.data import BPETokenizer
from minrnn.training import generate, load_run

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(not (CHROMIUM and shutil.which("npm")), reason="needs chromium and npm")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: object) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shown(url: str, profile: Path) -> str:
    """The page after it did what the address asks for, in a browser that reaches this server alone."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom"]
    only = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    done = subprocess.run(
        [str(CHROMIUM), *words, only, f"--user-data-dir={profile}", url], capture_output=True, timeout=120
    )
    return done.stdout.decode()


def inside(page: str, id: str) -> str:
    """The text of the element of this id."""
    found = re.search(rf'id="{id}".*?>(.*?)</(?:pre|p)>', page, re.DOTALL)
    assert found is not None, page
    return html.unescape(re.sub("<.*?>", "", found[1]))


@needs_browser
def test_text_is_written_in_the_browser(
    runs: Path, tmp_path: Path, exported_before: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(runs / "text"), "--format", "web", "--out", str(tmp_path / "page")]) == 0
    assert "python -m http.server --directory" in capsys.readouterr().out
    run = load_run(runs / "text")
    expected = "7 sheep" + "".join(p[0] for p in generate(run.model, run.tokenizer, "7 sheep", 40, temperature=0))
    with served(tmp_path / "page") as address:
        page = shown(f"{address}/?prompt=7%20sheep&tokens=40&temperature=0", tmp_path / "profile")
        assert inside(page, "text") == expected and inside(page, "status").startswith("40 tokens")
        page = shown(f"{address}/?prompt=%C3%A9&tokens=40&temperature=0", tmp_path / "profile")
        assert inside(page, "status") == 'The model does not know the character "é".'


@needs_browser
def test_a_series_is_read_in_the_browser(runs: Path, tmp_path: Path, exported_before: pytest.MonkeyPatch) -> None:
    assert main(["export", str(runs / "classify"), "--format", "web", "--out", str(tmp_path / "page")]) == 0
    example = json.loads((tmp_path / "page/example.json").read_text())
    assert 10 <= len(example) < 20  # one of those that were held out
    answers = minrnn.stream(runs / "classify")
    for row in example:
        expected = answers.push([np.nan if value is None else value for value in row])
    with served(tmp_path / "page") as address:
        page = shown(f"{address}/?read", tmp_path / "profile")
    found = re.search(r'data-numbers="(.*?)"', page)
    assert found is not None, page
    assert list(map(float, found[1].split())) == pytest.approx(list(expected.probabilities.values()), abs=1e-5)
    assert inside(page, "answer").startswith(f"{expected.answer}, ")
    assert page.count("<polyline") >= 4 and inside(page, "status") == f"{len(example)} of {len(example)} steps"


def test_runs_without_steps_have_no_page(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(runs / "forecast"), "--format", "web", "--out", str(tmp_path / "page")]) == 2
    assert "reads its last steps at once; --format onnx takes it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_runtime_has_to_be_the_right_one(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(runs / "text"), "--format", "web", "--out", str(tmp_path / "page")]
    monkeypatch.setenv("MINRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(words) == 2
    assert "needs npm" in (said := capsys.readouterr().err) and "--runtime FOLDER" in said
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/onnxruntime-web-1.22.0.tgz").write_text("something else")
    assert main(words) == 2
    assert "needs npm" in capsys.readouterr().err
    assert main([*words, "--runtime", str(tmp_path)]) == 2
    assert "has no dist/ort.wasm.min.mjs" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_a_runtime_at_hand_is_taken(runs: Path, tmp_path: Path, exported_before: pytest.MonkeyPatch) -> None:
    names = {"ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"}
    (tmp_path / "package/dist").mkdir(parents=True)
    for name in names:
        (tmp_path / "package/dist" / name).write_text(name)
    out, runtime = str(tmp_path / "page"), str(tmp_path / "package")
    assert main(["export", str(runs / "text"), "--format", "web", "--out", out, "--runtime", runtime]) == 0
    found = {path.relative_to(out).as_posix(): path for path in (tmp_path / "page").rglob("*") if path.is_file()}
    ours = {"index.html", "page.js", "step.js", "tokens.js", "style.css", "step.onnx", "model.json", "tokenizer.json"}
    assert set(found) == ours | {f"runtime/{name}" for name in names}
    for name in ours - {"step.onnx"}:
        assert not re.search(r"https?://", found[name].read_text()), name


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_page_cuts_text_into_the_same_tokens(tmp_path: Path) -> None:
    from .test_onnx import STRANGE

    text = STRANGE * 3 + "the sheep jumped over the fence; " * 9
    tokenizer = BPETokenizer.train(text, 300)
    tokenizer.save(tmp_path / "tokenizer.json")
    source = Path(minrnn.__file__).parent / "export/files/web/tokens.js"
    shutil.copy(source, tmp_path / "tokens.mjs")
    (tmp_path / "text.json").write_text(json.dumps(text))
    (tmp_path / "try.mjs").write_text(
        'import { readFileSync } from "node:fs"; import { Tokens } from "./tokens.mjs";\n'
        "const read = (name) => JSON.parse(readFileSync(name));\n"
        'console.log(JSON.stringify(new Tokens(read("tokenizer.json")).encode(read("text.json"))));\n'
    )
    done = subprocess.run(["node", "try.mjs"], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout) == tokenizer.encode(text).tolist()
