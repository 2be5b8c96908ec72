// The conversation as it is read: turns, their pictures, what can be done with them, and what is just coming.

import { button, h, isSend, words } from "./elements.js";
import { address } from "./sessions.js";
import { t } from "./texts.js";

const speakers = () => ({ system: t("Instructions"), user: t("You"), assistant: "M²Chat" });
// Not translated: the starter knows English.
const EXAMPLES = [
  "A fox finds a kite on the beach.",
  "A rabbit and an owl build a camp in the snow.",
  "Tell me about a penguin who is given a guitar.",
];

/**
 * @typedef {import("./sessions.js").Picture & {node?: string, blob?: Blob}} Picture `node` paints it; or it is a
 *   `blob` that is yet to be uploaded.
 * @typedef {{role: string, segments: (import("./sessions.js").Text | Picture)[], node?: string}} Turn `node` writes it.
 * @typedef {{
 *   retell: (turn: number, text?: string) => void,
 *   rewind: (turn: number) => void,
 *   rewrite: (turn: number, segment: number, text: string) => void,
 *   repaint: (turn: number, segment: number, caption?: string) => void,
 *   suggest: (premise: string) => void,
 * }} Actions Turns and segments are counted from 0.
 */

/** Shows a conversation, and writes into it what a run reports. */
export class Transcript {
  #actions;
  #live = new Map(); // by the id of a node: where its text, picture and progress go
  #drafts = new Map(); // what is being typed in place of a text, by where that stands
  #reopen = []; // the forms of those
  #sent = ""; // where the one stands that was sent
  #addresses = []; // of blobs, to be revoked
  #atEnd = true; // there one reads on, whatever comes

  /** @param {Actions} actions */
  constructor(actions) {
    this.#actions = actions;
    // Not live: it is made anew for every change. The panel reads aloud what has come.
    const about = { role: "log", "aria-label": t("Conversation"), "aria-live": "off" };
    this.element = h("div", { className: "m2chat-log", tabIndex: 0, ...about });
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      this.#atEnd = scrollHeight - scrollTop - clientHeight < 80;
    });
    this.element.addEventListener("load", () => this.#follow(), true); // a picture's size is known then
  }

  /**
   * Show turns in place of what was there.
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
    this.#reopen.splice(0).forEach((open) => open());
  }

  /** What was sent in place of a text has been done, or else is shown again. @param {boolean} done */
  settle(done) {
    if (done) this.#drafts.delete(this.#sent);
    this.#sent = "";
  }

  /** Drop what is being typed in place of a text. */
  forget() {
    this.#drafts.clear();
  }

  /** Where one reads: the end. */
  toEnd() {
    this.#atEnd = true;
    this.element.scrollTop = this.element.scrollHeight;
  }

  /** @param {string} node @param {string} text */
  text(node, text) {
    this.#live.get(node)?.text.replaceChildren(words(text.trim()));
    this.#follow();
  }

  /** @param {string} node @param {Blob} picture */
  preview(node, picture) {
    const live = this.#live.get(node);
    if (!live) return;
    live.figure.hidden = false;
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
      h("p", {}, t("Say what happens. M²Chat answers in words and pictures, and keeps its characters as they look.")),
      h("ul", { "aria-label": t("Examples") }, ...examples),
    );
  }

  /** @param {Turn} turn */
  #turn(turn, index, last, busy) {
    const body = h("div", { className: "m2chat-body" });
    turn.segments.forEach((segment, place) => body.append(this.#segment(turn, index, segment, place, busy)));
    if (turn.node) body.append(this.#coming(turn.node));
    const tools = busy || turn.role === "system" ? null : this.#tools(turn, index, last, body);
    const label = t("$, turn $", speakers()[turn.role], index + 1);
    const speaker = h("div", { className: "m2chat-speaker", "aria-hidden": "true" }, speakers()[turn.role]);
    return h("article", { className: `m2chat-turn m2chat-${turn.role}`, "aria-label": label }, speaker, body, tools);
  }

  #segment(turn, index, segment, place, busy) {
    if (segment.type === "text") {
      const shown = words(segment.text.trim());
      if (busy || turn.role !== "assistant") return shown;
      const rewrite = (text) => this.#actions.rewrite(index, place, text);
      const edit = this.#editor([index, place], shown, t("This part of the reply"), segment.text, t("Save"), rewrite);
      const tools = h("div", { className: "m2chat-tools" }, button(t("Edit"), edit, { "aria-label": t("Edit this text") }));
      return h("div", { className: "m2chat-passage" }, shown, tools);
    }
    return this.#picture(turn, index, segment, place, busy);
  }

  /** @param {Picture} picture */
  #picture(turn, index, picture, place, busy) {
    const source = picture.blob ? this.#addressOf(picture.blob) : picture.url && address(picture);
    if (picture.node) return h("div", {}, this.#coming(picture.node, source), words(picture.caption, "m2chat-caption"));
    const image = source
      ? h("img", { className: "m2chat-picture", src: source, alt: picture.caption || t("Your picture") })
      : h("div", { className: "m2chat-picture m2chat-open" }, t("Not painted yet"));
    if (turn.role === "user") return h("figure", {}, image);
    const caption = words(picture.caption, "m2chat-caption");
    const how = [picture.seed && t("seed $", picture.seed), picture.gate !== null && t("gate $", picture.gate)];
    const made = h("div", { className: "m2chat-made" }, how.filter(Boolean).join(" · "));
    const repaint = (text) => this.#actions.repaint(index, place, text);
    const about = t("What the picture is to show");
    const edit = busy || this.#editor([index, place], caption, about, picture.caption, t("Paint again"), repaint);
    const tools = h(
      "div",
      { className: "m2chat-tools" },
      button(source ? t("Re-roll") : t("Paint"), () => this.#actions.repaint(index, place), {
        "aria-label": source ? t("Re-roll this picture") : t("Paint this picture"),
      }),
      button(t("Edit caption"), edit),
    );
    return h("figure", {}, image, h("figcaption", {}, caption, made), busy ? null : tools);
  }

  /** Where a node's text, preview and progress appear. @param {string} node @param {string} [before] A picture. */
  #coming(node, before) {
    const dots = h("div", { className: "m2chat-waiting", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    const text = h("div", {}, before ? null : dots);
    const image = h("img", { className: "m2chat-picture", alt: t("The picture so far"), ...(before && { src: before }) });
    const bar = h("progress", { className: "m2chat-bar", "aria-label": t("Painting") });
    const figure = h("figure", { className: "m2chat-painting", hidden: !before }, image, bar);
    this.#live.set(node, { text, image, bar, figure });
    return h("div", {}, text, figure);
  }

  #tools(turn, index, last, body) {
    const { retell, rewind } = this.#actions;
    const made = [];
    if (turn.role === "user") {
      const text = turn.segments.map((segment) => segment.text ?? "").join("");
      const edit = this.#editor([index], body, t("Your message"), text, t("Tell again"), (changed) => retell(index, changed));
      made.push(button(t("Edit"), edit, { "aria-label": t("Edit this message") }));
      if (last) made.push(button(t("Let it reply"), () => retell(index)));
    } else {
      made.push(button(t("Re-roll reply"), () => retell(index - 1)));
      if (!last) made.push(button(t("Rewind here"), () => rewind(index)));
    }
    return h("div", { className: "m2chat-tools m2chat-of-turn" }, ...made);
  }

  /**
   * What opens a form in place of `shown`, until it is sent or left. What was typed stays until it has been done.
   *
   * @param {number[]} place
   * @param {HTMLElement} shown
   * @param {string} label
   * @param {string} text
   * @param {string} send
   * @param {(text: string) => void} done
   */
  #editor(place, shown, label, text, send, done) {
    const key = String(place);
    const open = (asked) => {
      const value = this.#drafts.get(key) ?? text;
      const area = h("textarea", { className: "m2chat-input", value, rows: 3, dir: "auto", "aria-label": label });
      const leave = () => {
        this.#drafts.delete(key);
        form.replaceWith(shown);
        (before === document.body ? this.element : before).focus();
      };
      const submit = h("button", { type: "submit", className: "m2chat-button m2chat-primary" }, send);
      const tools = h("div", { className: "m2chat-tools" }, submit, button(t("Cancel"), leave));
      const form = h("form", { className: "m2chat-edit" }, area, tools);
      area.oninput = () => this.#drafts.set(key, area.value);
      form.onsubmit = (event) => {
        event.preventDefault();
        this.#drafts.set(key, area.value);
        this.#sent = key;
        done(area.value);
      };
      form.onkeydown = (event) => {
        if (event.key === "Escape") leave();
        else if (event.target === area && isSend(event)) form.requestSubmit();
        else return;
        event.preventDefault();
        event.stopPropagation();
      };
      const before = document.activeElement;
      shown.replaceWith(form);
      if (!asked && before !== document.body) return; // one is typing elsewhere
      area.focus();
      form.scrollIntoView({ block: "nearest" });
    };
    if (this.#drafts.has(key)) this.#reopen.push(() => open(false));
    return open;
  }
}
