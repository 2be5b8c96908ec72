"""The sessions over HTTP, for a page: list, load, save, delete, rewind, edit, branch. Errors are {"error": a sentence}.

    GET    /m2chat/sessions                      {"sessions": [{name, revision, turns, pictures, modified, error}, ...]}
    GET    /m2chat/sessions/{name}               {name, revision, turns, cast}, pictures by URL
    GET    /m2chat/sessions/{name}/{picture}     a PNG
    PUT    /m2chat/sessions/{name}               {revision, turns, cast}: what is there afterwards
    DELETE /m2chat/sessions/{name}
    POST   /m2chat/sessions/{name}/rewind        {revision, turn}
    POST   /m2chat/sessions/{name}/edit          {revision, turn, text[, segment]}, or
                                                 {revision, turn, segment[, caption][, repaint]}
    POST   /m2chat/sessions/{name}/branch        {to[, turn]}

Turns and their segments are counted from 0. A revision that is not the present one is answered with 409. Seeds are
strings, since a page's numbers end at 2**53. What PUT takes has the form of what GET gives; its pictures are those that
the session has, named by their "file": pictures come into a session by its nodes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from server import PromptServer

from ..m3adapter.conversation import Character, Conversation, ConversationError, Picture, Segment, Slot, Text, Turn
from ..m3adapter.sessions import Session, SessionConflict, SessionMissing, Sessions
from ..m3adapter.values import shown
from .sessions import FOLDER

ROOT = "/m2chat/sessions"
ONE = ROOT + "/{name:[^/]+}"  # by itself, {name} is no name with a brace
STATUS = {SessionMissing: 404, SessionConflict: 409, OSError: 500}

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.Response]]


def register() -> None:
    """Make ComfyUI's server answer these requests."""
    routes = PromptServer.instance.routes
    for method, path, handler in (
        ("GET", ROOT, list_sessions),
        ("GET", ONE, load_session),
        ("GET", ONE + "/{picture:[^/]+}", load_picture),
        ("PUT", ONE, save_session),
        ("DELETE", ONE, delete_session),
        ("POST", ONE + "/rewind", rewind_session),
        ("POST", ONE + "/edit", edit_session),
        ("POST", ONE + "/branch", branch_session),
    ):
        routes.route(method, path)(_answered(handler))


def _answered(handler: Callable[[web.Request, Sessions], Awaitable[web.Response]]) -> Handler:
    """Gives the handler the sessions of the user who asks, and turns its errors into sentences with a status."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        users = PromptServer.instance.user_manager
        try:
            folder = users.get_request_user_filepath(request, FOLDER, create_dir=False)
        except KeyError:
            return web.json_response({"error": "ComfyUI does not know this user: log in again."}, status=401)
        try:
            return await handler(request, Sessions(Path(folder)))
        except (ValueError, OSError) as error:
            status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
            return web.json_response({"error": str(error)}, status=status)

    return answer


async def list_sessions(request: web.Request, sessions: Sessions) -> web.Response:
    """All sessions, the latest first."""
    return web.json_response({"sessions": [asdict(each) for each in await asyncio.to_thread(sessions.list)]})


async def load_session(request: web.Request, sessions: Sessions) -> web.Response:
    """One session."""
    return _session(await asyncio.to_thread(sessions.load, request.match_info["name"]))


async def load_picture(request: web.Request, sessions: Sessions) -> web.Response:
    """One of its pictures."""
    data = await asyncio.to_thread(sessions.picture, request.match_info["name"], request.match_info["picture"])
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return web.Response(body=data, content_type="image/png", headers=headers)


async def save_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Turns and cast in place of what the session has; revision 0 makes a new one."""
    name, given = request.match_info["name"], await _body(request)
    revision = _whole(given, "revision")

    def save() -> Session:
        if not revision and not sessions.exists(name):
            return sessions.save(name, _conversation(given, {}), 0)
        return sessions.edit(name, lambda present: _conversation(given, _by_file(present)), revision)

    return _session(await asyncio.to_thread(save))


async def delete_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Gone."""
    await asyncio.to_thread(sessions.delete, request.match_info["name"])
    return web.json_response({})


async def rewind_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Up to a turn."""
    given = await _body(request)
    turn = _whole(given, "turn")
    return await _edited(request, sessions, given, lambda conversation: conversation.rewind(turn))


async def edit_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Another text, another caption, or a picture to be painted again."""
    given = await _body(request)
    turn = _whole(given, "turn")
    segment = _whole(given, "segment") if given.get("segment") is not None else None
    if "text" in given:
        return await _edited(request, sessions, given, lambda c: c.with_text(turn, given["text"], segment))
    if segment is None or ("caption" not in given and given.get("repaint") is not True):
        raise ConversationError("There is nothing to edit: give text, or a segment with caption or repaint.")

    def change(conversation: Conversation) -> Conversation:
        slot = Slot(turn, segment)
        if "caption" in given:
            conversation = conversation.with_caption(slot, given["caption"])
        return conversation.without_picture(slot) if given.get("repaint") is True else conversation

    return await _edited(request, sessions, given, change)


async def branch_session(request: web.Request, sessions: Sessions) -> web.Response:
    """A copy under another name, up to a turn if one is given."""
    given = await _body(request)
    turn = _whole(given, "turn") if given.get("turn") is not None else None
    return _session(await asyncio.to_thread(sessions.branch, request.match_info["name"], given.get("to"), turn))


async def _edited(
    request: web.Request, sessions: Sessions, given: Json, change: Callable[[Conversation], Conversation]
) -> web.Response:
    revision = _whole(given, "revision")
    return _session(await asyncio.to_thread(sessions.edit, request.match_info["name"], change, revision))


async def _body(request: web.Request) -> Json:
    try:
        given = await request.json()
    except (ValueError, RecursionError) as error:
        raise ConversationError("The request's body is not valid JSON: send an object.") from error
    if not isinstance(given, dict):
        raise ConversationError("The request's body is no JSON object: send one.")
    return given


def _whole(given: Json, name: str) -> int:
    value = given.get(name)
    if type(value) is not int or value < 0:
        raise ConversationError(f"{name} is {shown(value)}: give a whole number from 0.")
    return value


def _session(session: Session) -> web.Response:
    """A session as JSON. Its pictures are numbered as storage.files() does it."""
    count = 0

    def picture(shown: Picture) -> Json:
        nonlocal count
        if shown.is_open:
            return {"file": None, "url": None}
        count += 1
        file = f"picture_{count}.png"
        return {"file": file, "url": f"{ROOT}/{quote(session.name, safe='')}/{file}?revision={session.revision}"}

    def segment(each: Segment) -> Json:
        if isinstance(each, Text):
            return {"type": "text", "text": each.text}
        seed = None if each.seed is None else str(each.seed)
        return {"type": "picture", "caption": each.caption, "seed": seed, "gate": each.gate, **picture(each)}

    turns = [{"role": turn.role, "segments": list(map(segment, turn.segments))} for turn in session.conversation.turns]
    cast = [{"name": one.name, "pictures": list(map(picture, one.pictures))} for one in session.conversation.cast]
    return web.json_response({"name": session.name, "revision": session.revision, "turns": turns, "cast": cast})


def _by_file(conversation: Conversation) -> dict[str, Picture]:
    shown = [conversation.at(slot) for slot in conversation.pictures()]
    shown += [picture for character in conversation.cast for picture in character.pictures]
    return {f"picture_{number}.png": picture for number, picture in enumerate(shown, 1)}


def _conversation(given: Json, pictures: dict[str, Picture]) -> Conversation:
    """What PUT was given as a conversation, with pictures that are there already."""

    def image(file: Any) -> Any:
        if file is None:
            return None
        if not isinstance(file, str) or file not in pictures:
            raise ConversationError(
                f"The session has no picture {shown(file)}: pictures come into a session by its nodes."
            )
        return pictures[file].image

    def segment(entry: Json) -> Segment:
        if entry["type"] == "text":
            return Text(entry["text"])
        if entry["type"] != "picture":
            raise ConversationError(f"{shown(entry['type'])} is no kind of segment: give text or picture.")
        seed = entry.get("seed")
        if isinstance(seed, str) and re.fullmatch("[0-9]{1,20}", seed):
            seed = int(seed)
        return Picture(entry.get("caption", ""), image(entry.get("file")), seed, entry.get("gate"))

    try:
        turns = tuple(Turn(turn["role"], tuple(map(segment, turn["segments"]))) for turn in given["turns"])
        cast = tuple(
            Character(one["name"], tuple(Picture(image=image(shown["file"])) for shown in one["pictures"]))
            for one in given.get("cast", [])
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversationError("A turn or a character is incomplete: send them as they are loaded.") from error
    return Conversation(turns, cast)
