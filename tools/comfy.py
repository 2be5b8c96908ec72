"""Start a ComfyUI, wait until it answers, and talk to it over HTTP and its websocket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import environment

Json = dict[str, Any]
HOST = "127.0.0.1"

# Never ask a proxy from the environment for our own machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ComfyError(RuntimeError):
    """ComfyUI did not start, did not answer or did not do what it was asked."""


class NoAnswer(ComfyError):
    """Nothing listens there, or the connection was closed: ComfyUI has not started yet or has ended."""


class PromptRejected(ComfyError):
    """ComfyUI refused a graph before running it.

    Attributes:
        error: What is wrong with the graph as a whole: `{"type", "message", "details", "extra_info"}`.
        node_errors: By node id: `{"class_type", "errors": [{"type", "message", "details", "extra_info"}], ...}`.
    """

    def __init__(self, response: Json) -> None:
        """Read ComfyUI's response to a refused graph."""
        error = response.get("error", {})
        self.error: Json = error if isinstance(error, dict) else {"type": "", "message": str(error)}
        self.node_errors: Json = response.get("node_errors") or {}
        lines = [" ".join(filter(None, (self.error.get("message"), self.error.get("details"))))]
        lines += [
            f"{node['class_type']} ({node_id}): {problem['message']}: {problem['details']}"
            for node_id, node in self.node_errors.items()
            for problem in node["errors"]
        ]
        super().__init__("ComfyUI refused the graph. " + "\n".join(lines))


class ExecutionFailed(ComfyError):
    """A run ended with an error or was interrupted.

    Attributes:
        entry: The history entry of the run.
        details: The data of its `execution_error` or `execution_interrupted` event: `node_id`, `node_type` and, after
            an error, `exception_type`, `exception_message`, `traceback`.
    """

    def __init__(self, entry: Json) -> None:
        """Read the history entry of a failed run."""
        self.entry = entry
        messages = dict(entry["status"]["messages"])
        self.details: Json = messages.get("execution_error") or messages.get("execution_interrupted") or {}
        kind = str(self.details.get("node_type", "ComfyUI"))
        reason = str(self.details.get("exception_message", "the run was interrupted")).strip()
        # The pack's own messages begin with the name that the node has on the canvas.
        named = kind.startswith("M2Chat_") and self.details.get("exception_type") == "ValueError"
        super().__init__(reason if named else f"{kind}: {reason}")


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class Server:
    """A ComfyUI process of our own.

    Args:
        python: The interpreter that has ComfyUI's requirements.
        engine: The folder with ComfyUI's `main.py`.
        arguments: Further command-line arguments for ComfyUI.
        port: Where it listens; by default, on a free port.
        log: The file for its output, which goes to the console by default.
    """

    def __init__(
        self, python: Path, engine: Path, *arguments: str, port: int | None = None, log: Path | None = None
    ) -> None:
        """Start the process; `wait_ready` waits until it answers."""
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.log = log
        command = [python, engine / "main.py", "--listen", HOST, "--port", self.port, *arguments]
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("wb")) if log else None
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=engine,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if log else None,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
            )

    @property
    def pid(self) -> int:
        """Id of the server's process."""
        return self.process.pid

    def wait_ready(self, timeout: float = 300.0) -> None:
        """Wait until the server answers.

        Raises:
            ComfyError: The process has ended, or `timeout` seconds have passed.
        """
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(NoAnswer):
                self.get("/system_stats")
                return
            if (code := self.process.poll()) is not None:
                raise ComfyError(f"ComfyUI ended with exit code {code} while starting.{self._tail()}")
            if time.monotonic() > deadline:
                raise ComfyError(f"ComfyUI did not answer within {timeout:.0f} s.{self._tail()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the server; does nothing if it has ended already."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Server:
        """Return the server, which is stopped at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the server."""
        self.stop()

    def request(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
        """GET a path, or POST a body to it, and return the body of the response.

        Raises:
            NoAnswer: The server does not answer.
            urllib.error.HTTPError: It answers with an error.
        """
        request = urllib.request.Request(self.url + path, body, {} if body is None else {"Content-Type": content_type})
        try:
            with _OPENER.open(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{request.full_url} does not answer: {error}.{self._tail()}") from error

    def get(self, path: str) -> Any:
        """GET a path and return the JSON of the response."""
        return json.loads(self.request(path))

    def queue(self, graph: Json, client_id: str | None = None, *, previews: str | None = None) -> str:
        """Queue a graph in API format and return its prompt id.

        Args:
            graph: A graph in API format.
            client_id: Whose run it is.
            previews: How to make previews, as `--preview-method` takes it; by default as ComfyUI was started.

        Raises:
            PromptRejected: ComfyUI refused the graph; the error says why.
        """
        body: Json = {"prompt": graph} if client_id is None else {"prompt": graph, "client_id": client_id}
        if previews is not None:
            body["extra_data"] = {"preview_method": previews}
        try:
            return json.loads(self.request("/prompt", json.dumps(body).encode()))["prompt_id"]
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise PromptRejected(json.loads(error.read())) from error

    def history(self, prompt_id: str) -> Json | None:
        """Return the history entry of a run, or None while it has not ended."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def wait(self, prompt_id: str, timeout: float = 600.0) -> Json:
        """Wait until a run has ended, whether it failed or not, and return its history entry.

        Raises:
            ComfyError: It did not end within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while (entry := self.history(prompt_id)) is None:
            if time.monotonic() > deadline:
                raise ComfyError(f"The run did not end within {timeout:.0f} s.{self._tail()}")
            time.sleep(0.1)
        return entry

    def run(self, graph: Json, timeout: float = 600.0) -> Json:
        """Queue a graph, wait for the end and return its history entry.

        Raises:
            ExecutionFailed: The run did not succeed.
        """
        return succeeded(self.wait(self.queue(graph), timeout))

    def follow(
        self, graph: Json, on_event: Callable[[Json], None], timeout: float = 600.0, *, previews: str | None = None
    ) -> Json:
        """Queue a graph, pass each event of its run to `on_event`, and wait for the end.

        An event is `{"type": name, "data": {...}}` as ComfyUI sends it over the websocket. Its binary messages arrive
        as `progress_text` (`node`, `text`) and `preview` (its metadata and `image`, the encoded bytes).

        Needs aiohttp, which the environment has.

        Args:
            graph: A graph in API format.
            on_event: Called with each event, in the thread of the caller.
            timeout: Seconds until the run must have ended.
            previews: As `queue` takes it.

        Returns:
            The history entry of the run, whether it failed or not.

        Raises:
            NoAnswer: ComfyUI does not listen, or it closed the connection.
            ComfyError: The run did not end in time.
            PromptRejected: ComfyUI refused the graph.
        """
        return asyncio.run(self._follow(graph, on_event, timeout, previews))

    async def _follow(
        self, graph: Json, on_event: Callable[[Json], None], timeout: float, previews: str | None
    ) -> Json:
        import aiohttp  # late: run.py imports this module outside the environment

        client_id = uuid.uuid4().hex
        deadline = time.monotonic() + timeout
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"{self.url}/ws?clientId={client_id}", max_msg_size=0) as stream,
            ):
                await stream.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                prompt_id = self.queue(graph, client_id, previews=previews)
                while True:
                    message = await asyncio.wait_for(stream.receive(), max(deadline - time.monotonic(), 0))
                    if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                        raise NoAnswer(f"ComfyUI closed the connection in the middle of the run.{self._tail()}")
                    event = _event(message.data)
                    if event is None or event["data"].get("prompt_id", prompt_id) != prompt_id:
                        continue
                    on_event(event)
                    if event["type"] == "executing" and event["data"]["node"] is None:  # the history is written by now
                        return self.wait(prompt_id)
        except asyncio.TimeoutError as error:
            raise ComfyError(f"The run did not end within {timeout:.0f} s.{self._tail()}") from error
        except aiohttp.ClientError as error:
            raise NoAnswer(f"{self.url}/ws does not answer: {error}.{self._tail()}") from error

    def _tail(self) -> str:
        """Return the end of the log for an error message."""
        if self.log is None:
            return ""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-15:]
        return "\n".join([f" The end of {self.log}:", *lines])


def own_server(*arguments: str, port: int | None = None, log: Path | None = None) -> Server:
    """Start the ComfyUI of our own environment with the pack in it, on the accelerator if there is one."""
    base = environment.prepare_base(environment.BASE)
    device = [] if environment.has_accelerator() or "--cpu" in arguments else ["--cpu"]
    return Server(environment.PYTHON, environment.ENGINE, *base, *device, *arguments, port=port, log=log)


@contextlib.contextmanager
def fresh_server() -> Iterator[Server]:
    """Run a ComfyUI with the pack in it on the processor, in a base directory of its own that goes with it."""
    environment.ensure()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        flags = environment.prepare_base(base)
        with Server(environment.PYTHON, environment.ENGINE, *flags, "--cpu", log=base / "comfyui.log") as server:
            server.wait_ready()
            yield server


def succeeded(entry: Json) -> Json:
    """Return the history entry if its run succeeded.

    Raises:
        ExecutionFailed: It did not; the error says why.
    """
    if entry["status"]["status_str"] != "success":
        raise ExecutionFailed(entry)
    return entry


def _event(message: str | bytes) -> Json | None:
    """Decode a websocket message; returns None for one that is not about a run."""
    if isinstance(message, str):
        event = json.loads(message)
        return None if event["type"] in ("status", "feature_flags") else event
    event_type, size = int.from_bytes(message[:4], "big"), int.from_bytes(message[4:8], "big")
    head, rest = message[8 : 8 + size], message[8 + size :]
    if event_type == 3:
        return {"type": "progress_text", "data": {"node": head.decode(), "text": rest.decode()}}
    if event_type == 4:
        return {"type": "preview", "data": {**json.loads(head), "image": rest}}
    if event_type == 1:  # a preview without metadata: the second number is the image format
        return {"type": "preview", "data": {"image": message[8:]}}
    return None
