"""The sessions over HTTP, for a page: list, load, save, delete, rewind, edit, branch, choose a version.

Errors are {"error": a sentence}.

    GET    /m2chat/sessions                      {"sessions": [{name, revision, turns, pictures, modified, error}, ...]}
                                                 and, with --multi-user, "user": whose they are, which nodes take
    GET    /m2chat/sessions/{name}               {name, revision, turns, cast}, pictures by URL
    GET    /m2chat/sessions/{name}/{picture}     a PNG
    PUT    /m2chat/sessions/{name}               {revision, turns, cast}: what is there afterwards
    DELETE /m2chat/sessions/{name}
    POST   /m2chat/sessions/{name}/rewind        {revision, turn}
    POST   /m2chat/sessions/{name}/edit          {revision, turn, text[, segment]}, or
                                                 {revision, turn, segment[, caption][, repaint][, seen]}, or
                                                 {revision, sheet}: what characters look like, name: looks by lines
    POST   /m2chat/sessions/{name}/version       {revision, turn[, segment], version}
    POST   /m2chat/sessions/{name}/branch        {to[, turn]}
    POST   /m2chat/sessions/{name}/stopped       {revision, prompt}: saves what that run had told;
                                                 {} if that is nothing

A turn or a picture that was told or painted before has "versions": {place, count}, and all others come back by
POST .../version: of a turn, with all that followed it. Versions are counted from 0, and PUT leaves them alone.

Turns and their segments are counted from 0. A revision that is not the present one is answered with 409. Seeds are
strings, since a page's numbers end at 2**53. What PUT takes has the form of what GET gives; its pictures are those that
the session has, named by their "file": only nodes add pictures to a session.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from comfy.cli_args import args
from server import PromptServer

from ..m3adapter.conversation.character_sheet import looks_of
from ..m3adapter.conversation.conversation import (
    Character,
    Conversation,
    ConversationError,
    Picture,
    Segment,
    Slot,
    Text,
    Turn,
)
from ..m3adapter.conversation.sessions import Session, SessionConflict, SessionMissing, Sessions
from ..m3adapter.conversation.storage import MAX_REVISION
from ..m3adapter.conversation.versions import Versions
from ..m3adapter.values import is_whole, shown
from . import stopped
from .errors import sentence
from .session_folders import FOLDER

ROOT = "/m2chat/sessions"
ONE = ROOT + "/{name:[^/]+}"  # by itself, {name} is no name with a brace
STATUS = {SessionMissing: 404, SessionConflict: 409, OSError: 500}

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.Response]]


def register() -> None:
    """Register these routes with ComfyUI's server."""
    routes = PromptServer.instance.routes
    for method, path, handler in (
        ("GET", ROOT, list_sessions),
        ("GET", ONE, load_session),
        ("GET", ONE + "/{picture:[^/]+}", load_picture),
        ("PUT", ONE, save_session),
        ("DELETE", ONE, delete_session),
        ("POST", ONE + "/rewind", rewind_session),
        ("POST", ONE + "/edit", edit_session),
        ("POST", ONE + "/version", choose_version),
        ("POST", ONE + "/branch", branch_session),
        ("POST", ONE + "/stopped", save_stopped),
    ):
        routes.route(method, path)(_answered(handler))


def _answered(handler: Callable[[web.Request, Sessions], Awaitable[web.Response]]) -> Handler:
    """Give the handler the sessions of the requesting user, and turn its errors into sentences with a status."""

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
            return web.json_response({"error": sentence(error)}, status=status)

    return answer


async def list_sessions(request: web.Request, sessions: Sessions) -> web.Response:
    """Return all sessions, the latest first."""
    listed = {"sessions": [asdict(each) for each in await asyncio.to_thread(sessions.list)]}
    if args.multi_user:
        listed["user"] = PromptServer.instance.user_manager.get_request_user_id(request)
    return web.json_response(listed)


async def load_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Return a session."""
    return _session(await asyncio.to_thread(sessions.load, request.match_info["name"]))


async def load_picture(request: web.Request, sessions: Sessions) -> web.Response:
    """Return one of a session's pictures."""
    data = await asyncio.to_thread(sessions.picture, request.match_info["name"], request.match_info["picture"])
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return web.Response(body=data, content_type="image/png", headers=headers)


async def save_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Replace the turns and cast of a session; revision 0 makes a new one."""
    name, given = request.match_info["name"], await _body(request)
    revision = _whole(given, "revision")

    def save() -> Session:
        if not revision and not sessions.exists(name):
            return sessions.save(name, _conversation(given, Conversation()), 0)
        return sessions.edit(name, lambda present: _conversation(given, present), revision)

    return _session(await asyncio.to_thread(save))


async def delete_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Delete a session."""
    await asyncio.to_thread(sessions.delete, request.match_info["name"])
    return web.json_response({})


async def rewind_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Drop the turns after a given one."""
    given = await _body(request)
    turn = _whole(given, "turn")
    return await _edited(request, sessions, given, lambda conversation: conversation.rewind(turn))


async def edit_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Change a text, a caption, what was seen or the character sheet, or reopen a picture to be painted again."""
    given = await _body(request)
    if "sheet" in given:
        return await _edited(request, sessions, given, lambda c: _with_sheet(c, given["sheet"]))
    turn = _whole(given, "turn")
    segment = _whole(given, "segment") if given.get("segment") is not None else None
    if "text" in given:
        return await _edited(request, sessions, given, lambda c: c.with_text(turn, given["text"], segment))
    if segment is None or (not given.keys() & {"caption", "seen"} and given.get("repaint") is not True):
        raise ConversationError(
            "There is nothing to edit: give text, sheet, or a segment with caption, seen or repaint."
        )

    def change(conversation: Conversation) -> Conversation:
        slot = Slot(turn, segment)
        if "caption" in given:
            conversation = conversation.with_caption(slot, given["caption"])
        if "seen" in given:
            conversation = conversation.with_seen(slot, given["seen"])
        return conversation.without_picture(slot) if given.get("repaint") is True else conversation

    return await _edited(request, sessions, given, change)


def _with_sheet(conversation: Conversation, sheet: Any) -> Conversation:
    """Return the conversation with another character sheet; a character without pictures that it leaves out goes."""
    if not isinstance(sheet, str):
        raise ConversationError("sheet must be a string: a line for each character, such as Rosa: a small red fox.")
    looks = looks_of(sheet)
    changed = conversation.with_looks({**{one.name: "" for one in conversation.cast}, **looks})
    named = (one for one in changed.cast if one.pictures or any(one.is_called(name) for name in looks))
    return replace(changed, cast=tuple(named))


async def choose_version(request: web.Request, sessions: Sessions) -> web.Response:
    """Choose another version of a turn, with what followed it, or of a picture."""
    given = await _body(request)
    turn, version = _whole(given, "turn"), _whole(given, "version")
    segment = _whole(given, "segment") if given.get("segment") is not None else None
    return await _edited(request, sessions, given, lambda c: c.with_version(version, turn, segment))


async def branch_session(request: web.Request, sessions: Sessions) -> web.Response:
    """Copy a session to another name, up to a turn if one is given."""
    given = await _body(request)
    turn = _whole(given, "turn") if given.get("turn") is not None else None
    target: Any = given.get("to")  # which branch() checks
    return _session(await asyncio.to_thread(sessions.branch, request.match_info["name"], target, turn))


async def save_stopped(request: web.Request, sessions: Sessions) -> web.Response:
    """Save what a run told and painted before it was stopped, if it did; revision 0 makes a new session."""
    given = await _body(request)
    revision, prompt = _whole(given, "revision"), str(given.get("prompt"))
    if (told := stopped.told(prompt)) is None:
        return web.json_response({})
    session = await asyncio.to_thread(sessions.save, request.match_info["name"], told, revision)
    stopped.forget(prompt)
    return _session(session)


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
        raise ConversationError("The request's body is not a JSON object: send one.")
    return given


def _whole(given: Json, name: str) -> int:
    value: Any = given.get(name)
    if not is_whole(value, 0, MAX_REVISION):
        raise ConversationError(f"{name} is {shown(value)}: give a whole number from 0.")
    return value


def _session(session: Session) -> web.Response:
    """Return a session as JSON; its pictures are numbered as by storage.files()."""
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
        described = {"type": "picture", "caption": each.caption, "seed": seed, "gate": each.gate}
        described |= {"seen": each.seen} if each.seen else {}
        return {**described, **picture(each), **versions(each)}

    def versions(each: Turn | Picture) -> Json:
        of = each.versions
        return {"versions": {"place": of.place, "count": of.count}} if of.others else {}

    turns = [
        {"role": turn.role, "segments": list(map(segment, turn.segments)), **versions(turn)}
        for turn in session.conversation.turns
    ]
    cast = [
        {"name": one.name, "pictures": list(map(picture, one.pictures)), "looks": one.looks}
        for one in session.conversation.cast
    ]
    return web.json_response({"name": session.name, "revision": session.revision, "turns": turns, "cast": cast})


def _by_file(conversation: Conversation) -> dict[str, Picture]:
    shown = [conversation.picture(slot) for slot in conversation.pictures()]
    shown += [picture for character in conversation.cast for picture in character.pictures]
    return {f"picture_{number}.png": picture for number, picture in enumerate(shown, 1)}


def _conversation(given: Json, present: Conversation) -> Conversation:
    """Return the conversation that PUT was given, with the session's pictures and the versions of what stays."""
    pictures = _by_file(present)

    def standing(file: Any) -> Picture:
        if file is None:
            return Picture()
        if not isinstance(file, str) or file not in pictures:
            raise ConversationError(f"The session has no picture {shown(file)}: only nodes add pictures to a session.")
        return pictures[file]

    def versions(entry: Json, of: Turn | Picture | None) -> Versions:
        told = entry.get("versions")
        if told is None or of is None:
            return Versions()
        if told != {"place": of.versions.place, "count": of.versions.count}:
            raise ConversationError("A turn or a picture has other versions in the session: load it again.")
        return of.versions

    def segment(entry: Json, turn: int, index: int) -> Segment:
        if entry["type"] == "text":
            return Text(entry["text"])
        if entry["type"] != "picture":
            raise ConversationError(f"{shown(entry['type'])} is not a kind of segment: give text or picture.")
        seed = entry.get("seed")
        if isinstance(seed, str) and re.fullmatch("[0-9]{1,20}", seed):
            seed = int(seed)
        of = standing(file := entry.get("file"))
        if file is None and turn < len(present.turns) and index < len(present.turns[turn].segments):
            stands = present.turns[turn].segments[index]
            of = stands if isinstance(stands, Picture) else of
        fields = {"caption": entry.get("caption", ""), "seed": seed, "gate": entry.get("gate")}
        return standing(file).changed(**fields, versions=versions(entry, of))

    def turn(entry: Json, index: int) -> Turn:
        of = present.turns[index] if index < len(present.turns) else None
        segments = tuple(segment(each, index, place) for place, each in enumerate(entry["segments"]))
        return Turn(entry["role"], segments, versions(entry, of))

    def looks(name: str) -> str:  # of a page that does not know of them
        return next((other.looks for other in present.cast if other.is_called(name)), "")

    try:
        turns = tuple(turn(entry, index) for index, entry in enumerate(given["turns"]))
        cast = tuple(
            Character(
                one["name"],
                tuple(
                    standing(each["file"]).changed(caption="", seed=None, gate=None, versions=Versions())
                    for each in one["pictures"]
                ),
                one["looks"] if "looks" in one else looks(one["name"]),
            )
            for one in given.get("cast", [])
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversationError("A turn or a character is incomplete: send them as they are loaded.") from error
    return Conversation(turns, cast)
