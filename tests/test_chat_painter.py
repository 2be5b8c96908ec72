"""A dialogue in the chat panel with a stock painter from the canvas, with a LoRA and a ControlNet on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from safetensors.torch import save_file

import graphs
import toys
from chat_page import ChatPage
from comfy_server import ComfyServer
from graphs import node
from m3adapter.conversation.cast import Character, with_looks
from m3adapter.conversation.conversation import Picture
from m3adapter.conversation.sessions import Sessions
from m3adapter.diffusion.prompt_syntax import escaped
from runs import picture
from test_chat_daily import turn_to, versions
from test_chat_panel import LOAD, sessions  # noqa: F401

LORA = "toy_lora.safetensors"
PAINTER = {"steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
CANVAS = {
    "1": node("M2Chat_LoadStarter"),
    "2": node("M2Chat_LoadStarterStock"),
    "3": node("LoraLoader", model=["2", 0], clip=["2", 1], lora_name=LORA, strength_model=1.0, strength_clip=1.0),
    "4": node("ToyControlNet"),
    "5": node("EmptyImage", width=128, height=128, batch_size=1, color=0x808080),
    "6": node("CLIPTextEncode", clip=["3", 1], text=""),
    "7": node(
        "ControlNetApplyAdvanced", positive=["6", 0], negative=["6", 0], control_net=["4", 0], image=["5", 0],
        strength=0.4, start_percent=0.0, end_percent=1.0,
    ),
    "8": node(
        "M2Chat_StockPainter", model=["3", 0], clip=["3", 1], vae=["2", 2], **PAINTER, width=128, height=128,
        negative="", references="none", positive_like=["7", 0], negative_like=["7", 1],
    ),
    "9": node("M2Chat_Turn", language_model=["1", 0], decoder=["8", 0], conversation=["10", 0], text="", gate=1.0,
              seed=1, steps=20, guidance=3.0),
    "10": node("M2Chat_Conversation", system=""),
}  # fmt: skip


@pytest.fixture(scope="module")
def chat(comfy: ComfyServer, browser: Browser) -> Iterator[ChatPage]:
    """The panel beside a canvas with a stock painter."""
    folder = comfy.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(toys.lora_weights(), folder / LORA)
    made = ChatPage(browser, comfy.url)
    made.page.evaluate(LOAD, CANVAS)
    made.panel.get_by_text("Models and painting").click()
    made.panel.get_by_label("Models").select_option("canvas")
    yield made
    made.page.close()


def stock(caption: str, seed: int) -> graphs.Graph:
    """The stock graph of a picture: node `picture`."""
    kept = {name: CANVAS[name] for name in ("2", "3", "4", "5", "7")}
    said = {"said": node("CLIPTextEncode", clip=["3", 1], text=escaped(caption)), "6": CANVAS["6"]}
    kept = {**graphs.changed(kept, "7", positive=["said", 0]), **said}
    given = {name: value for name, value in PAINTER.items() if name != "sampler_name"}
    return {
        **kept,
        "empty": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "sampled": node(
            "KSampler", model=["3", 0], positive=["7", 0], negative=["7", 1], latent_image=["empty", 0], seed=seed,
            sampler_name="euler", **given,
        ),
        "decoded": node("VAEDecode", samples=["sampled", 0], vae=["2", 2]),
        "picture": node("PreviewImage", images=["decoded", 0]),
    }  # fmt: skip


def painted(sessions: Sessions, name: str) -> list[Picture]:  # noqa: F811
    """The assistant's pictures of a session, as they are saved."""
    told = sessions.load(name).conversation
    return [told.picture(slot) for slot in told.slots()]


@pytest.mark.slow
def test_a_dialogue_with_a_stock_painter_is_told_re_rolled_and_reloaded(
    chat: ChatPage,
    comfy: ComfyServer,
    sessions: Sessions,  # noqa: F811
) -> None:
    for said in ("A fox finds a kite on the beach.", "What happens next?", "Tell me more."):
        chat.say(said)
        assert not chat.has_error, chat.error
    assert chat.turns.count() == 6 and chat.seeds()
    pictures = painted(sessions, chat.session)
    for one in (pictures[0], pictures[-1]):
        assert one.seed is not None
        expected = picture(comfy, comfy.run(stock(one.caption, one.seed)), "picture")
        ours = (one.pixels * 255).round().byte().numpy()
        # ComfyUI's previews cut off what an 8-bit value cannot hold, sessions round it.
        assert abs(ours.astype(int) - expected).max() <= 1, "not the stock graph's picture"
    before = chat.seeds()
    chat.press("Re-roll this picture")
    chat.idle()
    assert not chat.has_error and versions(chat, "picture") == ["2 / 2"] and chat.seeds()[-1] != before[-1]
    turn_to(chat, "picture", "Previous")
    assert chat.seeds() == before
    said, name = chat.said(), chat.session
    chat.reopen()
    chat.choose(name)
    assert chat.said() == said and chat.seeds() == before


@pytest.mark.slow
def test_characters_and_what_was_seen_are_edited_and_used(
    chat: ChatPage,
    comfy: ComfyServer,
    sessions: Sessions,  # noqa: F811
) -> None:
    if chat.session:  # of another test, whose session is gone
        chat.press("New chat")
        chat.until(lambda: not chat.session)
    chat.say("A fox finds a kite on the beach.")
    assert not chat.has_error, chat.error
    name = chat.session
    chat.panel.locator(".m2chat-cast summary").click()
    chat.press("Edit the characters")
    chat.panel.get_by_label("What characters look like").fill("fox: blue fur")
    chat.panel.locator(".m2chat-cast").get_by_role("button", name="Save").click()
    chat.until(lambda: any("blue fur" in text for text in chat.panel.locator(".m2chat-cast li").all_inner_texts()))
    chat.say("What does the fox do next?")
    assert not chat.has_error, chat.error
    cast = (Character("fox", looks="blue fur"),)
    last = painted(sessions, name)[-1]
    prompt = with_looks(last.caption, cast)
    assert prompt != last.caption and last.seed is not None
    ours = (last.pixels * 255).round().byte().numpy()
    assert abs(ours.astype(int) - picture(comfy, comfy.run(stock(prompt, last.seed)), "picture")).max() <= 1

    stands = sessions.load(name)
    slot = stands.conversation.slots()[-1]
    sessions.edit(name, lambda told: told.with_seen(slot, "a red square"), stands.revision)
    chat.reopen()
    chat.choose(name)
    chat.panel.get_by_text("What was seen in it").click()
    assert "a red square" in chat.panel.locator(".m2chat-seen").inner_text()
    chat.press("Edit what was seen")
    chat.panel.get_by_label("What the picture shows").fill("a blue fox")
    chat.panel.locator(".m2chat-seen").get_by_role("button", name="Save").click()
    chat.until(lambda: sessions.load(name).conversation.picture(slot).seen == "a blue fox")
