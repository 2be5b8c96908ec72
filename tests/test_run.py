"""run.py: its commands, and the real ComfyUI it starts with the pack."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

import looks
import run
from comfy_server import ComfyServer
from runs import inside
from tools import checks, environment, story
from tools.comfy import ComfyError, NoAnswer, PromptRejected

IMAGE = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255}}}
PREVIEW = {**IMAGE, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}


def test_the_pack_loads_in_a_real_comfyui(comfy: ComfyServer) -> None:
    log = comfy.log.read_text("utf-8")
    loaded = [line for line in log.splitlines() if line.endswith(str(comfy.base / "custom_nodes" / "m2chat"))]
    assert len(loaded) == 1 and "seconds:" in loaded[0]
    assert "IMPORT FAILED" not in log
    assert "Cannot import" not in log and "comfy_entrypoint" not in log
    assert comfy.get("/system_stats")["devices"][0]["type"] == "cpu"


def test_a_run_is_followed_to_its_end(comfy: ComfyServer) -> None:
    events = comfy.events(PREVIEW)
    names = [event["type"] for event in events]
    assert names[0] == "execution_start" and names.count("executed") == 1
    assert events[-1]["type"] == "executing" and events[-1]["data"]["node"] is None
    again = comfy.events(PREVIEW)
    assert {"1", "2"} <= {node for e in again if e["type"] == "execution_cached" for node in e["data"]["nodes"]}


def test_a_run_that_takes_too_long_and_a_server_that_is_gone_are_told_apart(comfy: ComfyServer) -> None:
    with pytest.raises(ComfyError, match="did not end within 0 s"):
        comfy.follow(PREVIEW, lambda _: None, timeout=0)
    gone = object.__new__(ComfyServer)
    gone.url, gone.log = "http://127.0.0.1:9", None
    with pytest.raises(NoAnswer, match="does not answer"):
        gone.follow(PREVIEW, lambda _: None)


def test_images_go_in_and_come_out(comfy: ComfyServer) -> None:
    name = comfy.upload_image(Image.new("RGB", (24, 16), "red"))
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "kept"}},
    }
    saved = comfy.run(graph)["outputs"]["2"]["images"][0]
    image = Image.open(io.BytesIO(comfy.view(**saved)))
    assert image.size == (24, 16) and image.getpixel((3, 3)) == (255, 0, 0)
    assert (comfy.output_dir / saved["filename"]).is_file()


def test_a_bad_graph_is_refused_by_node_and_input(comfy: ComfyServer) -> None:
    graph = {"1": {**IMAGE["1"], "inputs": {**IMAGE["1"]["inputs"], "width": "wide"}}, "2": PREVIEW["2"]}
    with pytest.raises(PromptRejected, match="EmptyImage") as refused:
        comfy.queue(graph)
    assert refused.value.node_errors["1"]["errors"][0]["extra_info"]["input_name"] == "width"


def test_the_page_of_comfyui_opens(comfy: ComfyServer, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(comfy.url)
    page.wait_for_function("window.app?.graph !== undefined", timeout=120_000)
    page.close()


def test_arguments_that_are_not_ours_go_on() -> None:
    for_pytest = ["tests/test_run.py", "-k", "pack", "-x", "-h"]
    assert run.parse(["test", *for_pytest]).extra == for_pytest
    ui = run.parse(["comfyui", "--port", "9000", "--", "--lowvram"])
    assert (ui.port, ui.comfyui, ui.extra) == (9000, None, ["--lowvram"])
    with pytest.raises(SystemExit):
        run.parse(["story", "--pannels", "3"])
    with pytest.raises(SystemExit):
        run.parse(["check", "spelling"])


FAST = ["-m", "not comfy and not browser and not slow"]


@pytest.mark.parametrize(
    ("arguments", "selected", "shared"),
    [
        ([], [], True),
        (["--fast"], FAST, True),
        (["--fast", "-x"], ["-x", *FAST], True),
        (["-k", "gate", "--maxfail", "2"], ["-k", "gate", "--maxfail", "2"], True),
        (["tests/test_run.py"], ["tests/test_run.py"], False),
        (["tests/test_run.py::test_x"], ["tests/test_run.py::test_x"], False),
        (["--fast", "tests/test_run.py"], ["tests/test_run.py", *FAST], False),
    ],
)
def test_tests_are_shared_among_the_processors_unless_some_are_named(
    arguments: list[str], selected: list[str], shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "ensure", lambda: None)
    monkeypatch.setattr(run.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(run.subprocess, "call", lambda command, **_: commands.append(command) or 5)
    assert run.main(["test", *arguments]) == 5
    workers = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"] if shared else []
    assert commands == [[str(environment.PYTHON), "-m", "pytest", *selected, *workers]]


def test_a_test_without_the_marker_cannot_start_comfyui(tmp_path: Path) -> None:
    for start in (lambda: ComfyServer(tmp_path), lambda: inside("early_end", "A fox.")):
        with pytest.raises(AssertionError, match="marked `comfy`"):
            start()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "failing", "expected"),
    [
        ([], "", {"lint": 0, "format": 0, "types": 0, "javascript": 0}),
        (["lint"], "", {"lint": 0}),
        (["lint", "types"], "types", {"lint": 0, "types": 1}),
    ],
)
def test_the_exit_code_of_the_checks_is_how_many_fail(
    names: list[str], failing: str, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: dict[str, int] = {}

    def call(command: tuple[str, ...], **_: object) -> int:
        name = next(name for name, words in checks.COMMANDS.items() if words == command)
        ran[name] = int(name == failing)
        return ran[name]

    monkeypatch.setattr(environment, "ensure", lambda: None)
    monkeypatch.setattr(checks, "TYPES", tmp_path / "types")
    monkeypatch.setattr(checks, "SCRIPTS", tmp_path / "javascript")
    monkeypatch.setattr(checks.shutil, "which", lambda _: "npx")
    monkeypatch.setattr(checks.subprocess, "call", call)
    assert run.main(["check", *names]) == sum(expected.values()) and ran == expected
    linked = [path.resolve() for path in tmp_path.glob("types/*")]
    assert linked == [environment.REPO] * ("types" in ran)
    laid_out = {path.name for path in tmp_path.glob("javascript/**/*.*s*")}
    assert laid_out >= {"tsconfig.json", "app.d.ts", "chat.js", "panel.js"} if "javascript" in ran else not laid_out


def test_the_pages_of_the_api_cover_every_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "ensure", lambda: None)
    monkeypatch.setattr(run.subprocess, "call", lambda command, **_: commands.append(command) or 0)
    assert run.main(["docs"]) == 0 and capsys.readouterr().out.endswith("index.html\n")
    folder = environment.REPO / "m3adapter"
    packages = {f"m3adapter.{path.parent.name}" for path in folder.glob("*/__init__.py")}
    assert {"m3adapter", "m3adapter.pipeline", *packages} <= set(commands[0])
    assert "m3adapter.starter" not in commands[0]


def test_a_check_that_cannot_run_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "ensure", lambda: None)
    monkeypatch.setattr(checks.shutil, "which", lambda _: None)
    assert run.main(["check", "javascript"]) == 1 and "needs Node.js" in capsys.readouterr().err


def test_a_missing_story_is_reported_before_anything_is_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(story, "GRAPH", tmp_path / "storybook.json")
    monkeypatch.setattr(environment, "ensure", lambda: pytest.fail("set up for nothing"))
    assert run.main(["story"]) == 1
    assert f"{tmp_path / 'storybook.json'} is missing" in capsys.readouterr().err


def test_the_story_takes_what_the_command_line_says(tmp_path: Path) -> None:
    path = tmp_path / "story.json"
    inputs = {"premise": "a fox", "panels": 4, "seed": 1, "chat": ["1", 0]}
    node = {"class_type": story.STORY_NODE, "inputs": inputs}
    path.write_text(json.dumps({"1": IMAGE["1"], "2": node}), "utf-8")
    graph = story.load_graph(path, {"panels": 6, "gate": 0.0})
    assert graph["1"] == IMAGE["1"]
    assert graph["2"]["inputs"] == {"premise": "a fox", "panels": 6, "seed": 1, "chat": ["1", 0], "gate": 0.0}

    path.write_text(json.dumps(IMAGE), "utf-8")
    with pytest.raises(environment.UserError, match=story.STORY_NODE):
        story.load_graph(path, {"panels": 6})


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to all processes of a console")
@pytest.mark.parametrize("to_all", [True, False])
def test_the_story_ends_its_server_at_ctrl_c_and_its_exit_code_is_ours(tmp_path: Path, to_all: bool) -> None:
    (tmp_path / "painter.py").write_text(
        "import sys, time\n"
        "try:\n    print(sys.argv[1], flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('stopped')\n    sys.exit(130)\n",
        "utf-8",
    )
    code = "import sys; from tools import environment; sys.exit(environment.run_module('painter', 'ready'))"
    paths = os.pathsep.join([str(environment.REPO), str(tmp_path)])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Background processes of a shell ignore Ctrl-C, and so would this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "stopped\n" and process.returncode == 130


def test_the_commands_need_nothing_but_python_to_start() -> None:
    answer = subprocess.run(
        [sys.executable, "-S", "run.py", "--help"], cwd=environment.REPO, capture_output=True, text=True
    )
    assert answer.returncode == 0 and "python run.py story" in answer.stdout, answer.stderr


def test_the_story_page_is_found_among_the_outputs(tmp_path: Path) -> None:
    page = tmp_path / "story" / "index.html"
    entry = {"outputs": {"3": {"images": [{}]}, "4": {"text": ["Once upon a time", str(page)]}}}
    assert story.find_page(entry, tmp_path) == page
    assert story.find_page({"outputs": {"4": {"text": ["story/index.html"]}}}, tmp_path) == page
    with pytest.raises(environment.UserError, match="no HTML page"):
        story.find_page({"outputs": {"4": {"text": ["Once"]}}}, tmp_path)


def test_the_pack_is_linked_once_and_overwrites_nothing(tmp_path: Path) -> None:
    link = environment.link_pack(tmp_path)
    assert link.resolve() == environment.REPO and environment.link_pack(tmp_path) == link
    os.remove(link) if os.name != "nt" else os.rmdir(link)
    (tmp_path / "m2chat").mkdir()
    with pytest.raises(environment.SetupError, match="move it away"):
        environment.link_pack(tmp_path)


def test_a_comfyui_of_the_user_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(environment.UserError, match="no ComfyUI"):
        run.find_comfyui(tmp_path)
    portable = tmp_path / "ComfyUI"
    (portable / "custom_nodes").mkdir(parents=True)
    (portable / "main.py").touch()
    assert run.find_comfyui(tmp_path) == run.find_comfyui(portable) == portable.resolve()
    (tmp_path / "python_embeded").mkdir()
    (tmp_path / "python_embeded" / "python.exe").touch()
    assert run.find_python(portable) == tmp_path / "python_embeded" / "python.exe"


def test_packages_that_a_comfyui_lacks_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("# words\nPillow>=9,<99\nm2chat-no-such-package>=1\n", "utf-8")
    monkeypatch.setattr(environment, "REQUIREMENTS", wanted)
    assert run.missing_packages(environment.PYTHON) == ["m2chat-no-such-package"]


def test_both_lists_of_requirements_agree() -> None:
    lines = environment.REQUIREMENTS.read_text("utf-8").splitlines()
    quoted = ", ".join(f'"{line}"' for line in lines if line and not line.startswith("#"))
    assert f"\ndependencies = [{quoted}]\n" in (environment.REPO / "pyproject.toml").read_text("utf-8")


def test_a_files_browser_tests_see_one_look_by_default() -> None:
    files = [f"test_{name}.py" for name in ("shown", "chat_jobs", "chat_daily", "templates", "browser")]
    for among in (looks.ALL, looks.FRONT_ENDS, looks.RENDERERS):
        found = [looks.chosen(file, [*among, *among]) for file in files]
        assert all(len(each) == 1 and each[0] in among for each in found)
        assert len({each[0] for each in found}) == 2, "not the same in all files"
    assert looks.chosen(files[0], looks.ALL, both=True) == looks.USUAL
