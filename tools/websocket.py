"""The listening half of a websocket client: enough for ComfyUI's events, without a package to install."""

from __future__ import annotations

import base64
import os
import socket

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class WebSocket:
    """A connection to ``ws://host:port/path``; the server's messages come one by one from ``receive``."""

    def __init__(self, host: str, port: int, path: str, timeout: float = 30.0) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._stream = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        status = self._stream.readline().decode("latin-1").strip()
        if status.split(" ")[1:2] != ["101"]:
            self.close()
            raise ConnectionError(f"ws://{host}:{port}{path} answered {status!r} instead of opening a websocket.")
        while self._stream.readline().strip():  # the rest of the handshake's headers
            pass

    def send_text(self, text: str) -> None:
        """Send one text message."""
        self._send(TEXT, text.encode())

    def receive(self, timeout: float) -> str | bytes:
        """Return the next message, text or bytes; TimeoutError after ``timeout`` seconds, ConnectionError at the end.

        The connection cannot be used after a TimeoutError, for part of a message may have been read.
        """
        self._socket.settimeout(timeout)
        message, kind = b"", TEXT
        while True:
            final, opcode, payload = self._frame()
            if opcode == PING:
                self._send(PONG, payload)
            elif opcode == CLOSE:
                raise ConnectionError("The server closed the websocket.")
            elif opcode in (TEXT, BINARY, CONTINUATION):
                kind = kind if opcode == CONTINUATION else opcode
                message += payload
                if final:
                    return message.decode() if kind == TEXT else message

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _frame(self) -> tuple[bool, int, bytes]:
        """Read one frame: is it the last of its message, its opcode, its payload (a server never masks it)."""
        first, second = self._read(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._read(2 if length == 126 else 8), "big")
        return bool(first & 0x80), first & 0x0F, self._read(length)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise ConnectionError("The server ended the websocket in the middle of a message.")
        return data

    def _send(self, opcode: int, payload: bytes) -> None:
        """Send one frame; a client has to mask what it sends."""
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 1 << 16:
            length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
        else:
            length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)
