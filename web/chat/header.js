// The head of the panel: which session it shows, and what can be done with it as a whole.

import { h, iconButton } from "./elements.js";
import { t } from "./texts.js";

/**
 * @typedef {{choose: (name: string) => void, rename: () => void, remove: () => void, open: () => void}} Actions
 *   An empty name is a new session.
 */

/** Chooses a session. */
export class Header {
  #choice;
  #buttons;

  /** @param {Actions} actions */
  constructor({ choose, rename, remove, open }) {
    this.#choice = h("select", { className: "m2chat-input m2chat-choice", "aria-label": t("Session") });
    this.#choice.onchange = () => choose(this.#choice.value);
    this.#buttons = {
      fresh: iconButton("pi-plus", t("New chat"), () => choose("")),
      rename: iconButton("pi-pencil", t("Rename this session"), rename),
      remove: iconButton("pi-trash", t("Delete this session"), remove),
      open: iconButton("pi-sitemap", t("Open the last message as nodes"), open),
    };
    this.element = h("header", { className: "m2chat-header" }, this.#choice, ...Object.values(this.#buttons));
  }

  /**
   * @param {import("./sessions.js").Summary[]} sessions
   * @param {string} name The one that is shown, or is about to be saved; empty for a new one.
   * @param {{busy: boolean, opens: boolean}} state Whether a run goes on, and whether there is a message to be opened.
   */
  show(sessions, name, { busy, opens }) {
    const options = sessions.map(({ name: other, error }) =>
      h("option", { value: other, disabled: Boolean(error), title: error }, error ? t("$ (damaged)", other) : other),
    );
    if (!sessions.some((other) => other.name === name)) options.unshift(h("option", { value: name }, name || t("New chat")));
    this.#choice.replaceChildren(...options);
    this.#choice.value = name;
    const { fresh, rename, remove, open } = this.#buttons;
    this.#choice.disabled = fresh.disabled = busy;
    rename.disabled = remove.disabled = busy || !name;
    open.disabled = busy || !opens;
  }
}
