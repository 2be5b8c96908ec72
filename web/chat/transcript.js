// The transcript: turns with their pictures and actions, and the reply that is being written.

import { enlarge } from "../shown/lightbox.js";
import { said } from "./again.js";
import { copyButton } from "./clipboard.js";
import { arrows, button, h, words } from "./elements.js";
import { Forms } from "./forms.js";
import { prose } from "./markdown.js";
import { show } from "./sessions.js";
import { t } from "./texts.js";

const speakers = () => ({ system: t("Instructions"), user: t("You"), assistant: "M²Chat" });
// Not translated, because the starter only knows English.
const EXAMPLES = [
  "A fox finds a kite on the beach.",
  "A rabbit and an owl build a camp in the snow.",
  "Tell me about a penguin who is given a guitar.",
];

/**
 * @typedef {import("./sessions.js").Picture} Picture
 * @typedef {import("./sessions.js").Turn & {thoughts?: string}} Turn
 * @typedef {{
 *   retell: (turn: number, text?: string) => void,
 *   rewind: (turn: number) => void,
 *   rewrite: (turn: number, segment: number, text: string) => void,
 *   repaint: (turn: number, segment: number, caption?: string) => void,
 *   reseen: (turn: number, segment: number, seen: string) => void,
 *   choose: (version: number, turn: number, segment?: number) => void,
 *   suggest: (premise: string) => void,
 * }} Actions Turns and segments are counted from 0.
 */

/** Shows a conversation, and adds what a run reports. */
export class Transcript {
  #actions;
  #live = new Map(); // the elements for a node's text, picture and progress, by its id
  #addresses = []; // of blobs, to be revoked
  #atEnd = true; // the transcript then follows new text

  /** @param {Actions} actions */
  constructor(actions) {
    this.#actions = actions;
    this.forms = new Forms(() => this.element);
    // Not a live region, since it is redrawn for every change: the panel has new text read aloud.
    const about = { role: "log", "aria-label": t("Conversation"), "aria-live": "off" };
    this.element = h("div", { className: "m2chat-log", tabIndex: 0, ...about });
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      this.#atEnd = scrollHeight - scrollTop - clientHeight < 80;
    });
    this.element.addEventListener("load", () => this.#follow(), true); // only then is a picture's size known
  }

  /**
   * Show these turns instead of the earlier ones.
   *
   * @param {Turn[]} turns
   * @param {boolean} busy Whether a run goes on: nothing can be done with a turn meanwhile.
   */
  show(turns, busy) {
    this.#addresses.splice(0).forEach(URL.revokeObjectURL);
    this.#live.clear();
    const { scrollTop } = this.element;
    const follows = this.#atEnd;
    const shown = turns.map((turn, index) => this.#turn(turn, index, index === turns.length - 1, busy));
    this.element.replaceChildren(...(shown.length ? shown : [this.#welcome()]));
    this.element.setAttribute("aria-busy", String(busy));
    this.element.scrollTop = follows ? this.element.scrollHeight : scrollTop;
    this.forms.reopen();
  }

  /** Scroll to the end. */
  toEnd() {
    this.#atEnd = true;
    this.element.scrollTop = this.element.scrollHeight;
  }

  /** @param {string} node @param {string} text */
  text(node, text) {
    this.#live.get(node)?.text.replaceChildren(prose(text.trim()));
    this.#follow();
  }

  /** What the model thinks before it replies. @param {string} node @param {string} text */
  thoughts(node, text) {
    const live = this.#live.get(node);
    if (!live) return;
    live.thoughts.hidden = !text.trim();
    live.thoughts.lastChild.textContent = text.trim();
    this.#follow();
  }

  /** @param {string} node @param {Blob} picture */
  preview(node, picture) {
    const live = this.#live.get(node);
    if (!live) return;
    live.figure.hidden = live.image.hidden = false;
    live.image.src = this.#addressOf(picture);
  }

  /** @param {string} node @param {number} done @param {number} total */
  progress(node, done, total) {
    const live = this.#live.get(node);
    if (!live) return;
    live.figure.hidden = false;
    Object.assign(live.bar, { value: done, max: total });
    this.#follow();
  }

  #follow() {
    if (this.#atEnd) this.toEnd();
  }

  #addressOf(blob) {
    this.#addresses.push(URL.createObjectURL(blob));
    return this.#addresses.at(-1);
  }

  #welcome() {
    const examples = EXAMPLES.map((premise) =>
      h("li", {}, button(premise, () => this.#actions.suggest(premise), { className: "m2chat-example" })),
    );
    return h(
      "section",
      { className: "m2chat-welcome", "aria-label": t("How to begin") },
      h("h2", {}, t("Tell a story together")),
      h("p", {}, t("Say what happens. M²Chat answers in words and pictures, and its characters keep their look.")),
      h("ul", { "aria-label": t("Examples") }, ...examples),
    );
  }

  /** @param {Turn} turn */
  #turn(turn, index, last, busy) {
    const body = h("div", { className: "m2chat-body" });
    if (turn.thoughts) body.append(thoughts(turn.thoughts));
    turn.segments.forEach((segment, place) => body.append(this.#segment(turn, index, segment, place, busy)));
    if (turn.node) body.append(this.#coming(turn.node));
    const tools = busy || turn.role === "system" ? null : this.#tools(turn, index, last, body);
    const label = t("$, turn $", speakers()[turn.role], index + 1);
    const speaker = h("div", { className: "m2chat-speaker", "aria-hidden": "true" }, speakers()[turn.role]);
    return h("article", { className: `m2chat-turn m2chat-${turn.role}`, "aria-label": label }, speaker, body, tools);
  }

  #segment(turn, index, segment, place, busy) {
    if (segment.type === "text") {
      if (turn.role !== "assistant") return words(segment.text.trim());
      const shown = prose(segment.text.trim());
      if (busy) return shown;
      const rewrite = (text) => this.#actions.rewrite(index, place, text);
      const edit = this.forms.editor([index, place], shown, t("This part of the reply"), segment.text, t("Save"), rewrite);
      const tools = h("div", { className: "m2chat-tools" }, button(t("Edit"), edit, { "aria-label": t("Edit this text") }));
      return h("div", { className: "m2chat-passage" }, shown, tools);
    }
    return this.#picture(turn, index, segment, place, busy);
  }

  /** @param {Picture} picture */
  #picture(turn, index, picture, place, busy) {
    if (picture.node) {
      const before = picture.url ? h("img", { className: "m2chat-picture" }) : null;
      if (before) show(before, picture, this.#addresses);
      return h("div", {}, this.#coming(picture.node, before), words(picture.caption, "m2chat-caption"));
    }
    const painted = picture.blob || picture.url;
    const image = painted ? this.#painted(picture) : h("div", { className: "m2chat-picture m2chat-open" }, t("Not painted yet"));
    if (turn.role === "user") return h("figure", {}, image);
    const caption = words(picture.caption, "m2chat-caption");
    const how = [picture.seed && t("seed $", picture.seed), picture.gate !== null && t("gate $", picture.gate)];
    const made = h("div", { className: "m2chat-made" }, how.filter(Boolean).join(" · "));
    const repaint = (text) => this.#actions.repaint(index, place, text);
    const about = t("What the picture should show");
    const edit = busy || this.forms.editor([index, place], caption, about, picture.caption, t("Paint again"), repaint);
    const tools = h(
      "div",
      { className: "m2chat-tools" },
      arrows(picture.versions, t("Versions of this picture"), (version) => this.#actions.choose(version, index, place)),
      button(painted ? t("Re-roll") : t("Paint"), () => this.#actions.repaint(index, place), {
        "aria-label": painted ? t("Re-roll this picture") : t("Paint this picture"),
      }),
      button(t("Edit caption"), edit),
    );
    const seen = picture.seen ? this.#seen(picture.seen, index, place, busy) : null;
    return h("figure", {}, image, h("figcaption", {}, caption, made), busy ? null : tools, seen);
  }

  /** What somebody who looked at a painted picture saw. @param {string} seen */
  #seen(seen, index, place, busy) {
    const shown = words(seen, "m2chat-thought");
    const reseen = (text) => this.#actions.reseen(index, place, text);
    const edit = this.forms.editor([index, place, 1], shown, t("What the picture shows"), seen, t("Save"), reseen);
    const tools = h("div", { className: "m2chat-tools" }, button(t("Edit"), edit, { "aria-label": t("Edit what was seen") }));
    const head = h("summary", {}, t("What was seen in it"));
    return h("details", { className: "m2chat-thoughts m2chat-seen" }, head, shown, busy ? null : tools);
  }

  /** A picture that is there, which a click enlarges. @param {Picture} picture */
  #painted(picture) {
    const image = h("img", { className: "m2chat-picture", alt: picture.caption || t("Your picture") });
    const large = () => {
      const all = [.../** @type {NodeListOf<HTMLImageElement>} */ (this.element.querySelectorAll(".m2chat-frame img"))];
      enlarge(
        all.map((each) => ({ src: each.src, caption: each.alt })),
        all.indexOf(image),
      );
    };
    const frame = h("button", { type: "button", className: "m2chat-frame", title: t("Enlarge"), onclick: large }, image);
    if (picture.blob) image.src = this.#addressOf(picture.blob);
    else show(image, picture, this.#addresses).catch(({ message }) => frame.replaceWith(this.#missing(picture, message)));
    return frame;
  }

  /** In place of a picture that could not be had. @param {Picture} picture @param {string} reason */
  #missing(picture, reason) {
    const again = button(t("Load again"), () => box.replaceWith(this.#painted(picture)));
    const box = h("div", { className: "m2chat-picture m2chat-open m2chat-missing" }, h("span", { dir: "auto" }, reason), again);
    return box;
  }

  /** Where a node's text, preview and progress appear. @param {string} node @param {?HTMLImageElement} [before] */
  #coming(node, before) {
    const dots = h("div", { className: "m2chat-waiting", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    const text = h("div", {}, before ? null : dots);
    const image = before || h("img", { className: "m2chat-picture", hidden: true });
    image.alt = t("The picture so far");
    const thought = thoughts("");
    thought.hidden = true;
    const bar = h("progress", { className: "m2chat-bar", "aria-label": t("Painting") });
    const figure = h("figure", { className: "m2chat-painting", hidden: !before }, image, bar);
    this.#live.set(node, { text, image, bar, figure, thoughts: thought });
    return h("div", {}, thought, text, figure);
  }

  #tools(turn, index, last, body) {
    const { retell, rewind, choose } = this.#actions;
    const text = said(turn);
    const mine = turn.role === "user";
    const about = mine ? t("Versions of this message") : t("Versions of this reply");
    const made = [arrows(turn.versions, about, (version) => choose(version, index))];
    if (mine) {
      const again = (changed) => retell(index, changed);
      const edit = this.forms.editor([index], body, t("Your message"), text, t("Tell again"), again);
      made.push(button(t("Edit"), edit, { "aria-label": t("Edit this message") }));
      if (last) made.push(button(t("Let it reply"), () => retell(index)));
    } else {
      made.push(button(t("Re-roll reply"), () => retell(index - 1)));
    }
    if (text.trim()) made.push(copyButton(() => text.trim(), mine ? t("Copy this message") : t("Copy this reply")));
    if (!mine && !last) made.push(button(t("Rewind here"), () => rewind(index)));
    return h("div", { className: "m2chat-tools m2chat-of-turn" }, ...made);
  }
}

/** What a model thought, folded: no part of what it said. @param {string} text */
const thoughts = (text) =>
  h("details", { className: "m2chat-thoughts" }, h("summary", {}, t("Thoughts")), words(text, "m2chat-thought"));
