// Makes elements of a page. Text stays text: nothing here parses HTML.

import { t } from "./texts.js";

/**
 * An element with properties, listeners ("onclick") and attributes (those with a dash, and role), and its children.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Object<string, *>} [properties]
 * @param {...(Node | string | null | undefined | false)} children Strings become text; what is missing is left out.
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child || child === "")));
  return made;
}

/**
 * A button with a word on it.
 *
 * @param {string} label
 * @param {() => void} onclick
 * @param {Object<string, *>} [properties]
 */
export function button(label, onclick, properties = {}) {
  return h("button", { type: "button", className: "m2chat-button", onclick, ...properties }, label);
}

/**
 * A button with one of ComfyUI's icons; its label is read aloud, and shown when pointed at.
 *
 * @param {string} icon
 * @param {string} label
 * @param {() => void} onclick
 */
export function iconButton(icon, label, onclick) {
  const picture = h("i", { className: `pi ${icon}`, "aria-hidden": "true" });
  return h(
    "button",
    { type: "button", className: "m2chat-icon", title: label, "aria-label": label, onclick },
    picture,
  );
}

/**
 * A text by a model or a user, in its own direction and with its own line ends.
 *
 * @param {string} text
 * @param {string} [className]
 */
export function words(text, className = "m2chat-words") {
  return h("div", { className, dir: "auto", textContent: text });
}

/**
 * The buttons that step through the versions of a reply or a picture; nothing if there is only one.
 *
 * @param {{place: number, count: number} | undefined} versions
 * @param {string} label What they are versions of.
 * @param {(version: number) => void} choose Takes a version's number, from 0.
 */
export function arrows(versions, label, choose) {
  if (!versions) return null;
  const { place, count } = versions;
  const arrow = (sign, name, to) =>
    button(sign, () => choose(to), { "aria-label": name, title: name, disabled: to < 0 || to >= count });
  return h(
    "span",
    { className: "m2chat-versions", role: "group", "aria-label": label },
    arrow("‹", t("Previous version"), place - 1),
    h("span", {}, `${place + 1} / ${count}`),
    arrow("›", t("Next version"), place + 1),
  );
}

/** Whether a key sends the text: Enter, but neither with Shift nor while an input method composes letters. */
export const isSend = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;
