// The head of the panel: the choice of a session, and actions on it as a whole.

import { button, h, iconButton } from "./elements.js";
import { t } from "./texts.js";

/**
 * @typedef {{choose: (name: string) => void, rename: () => void, remove: () => void, open: () => void,
 *   write: (format: string) => void}} Actions An empty name is a new session.
 */

/** Chooses a session. */
export class Header {
  #choice;
  #buttons;
  #formats;

  /** @param {Actions} actions */
  constructor({ choose, rename, remove, open, write }) {
    this.#choice = h("select", { className: "m2chat-input m2chat-choice", "aria-label": t("Session") });
    this.#choice.onchange = () => choose(this.#choice.value);
    this.#buttons = {
      fresh: iconButton("pi-plus", t("New chat"), () => choose("")),
      rename: iconButton("pi-pencil", t("Rename this session"), rename),
      remove: iconButton("pi-trash", t("Delete this session"), remove),
      open: iconButton("pi-sitemap", t("Open the last message as nodes"), open),
      write: iconButton("pi-download", t("Export this session"), () => this.#menu()),
    };
    this.#formats = this.#menuOf({ html: t("Web page"), pdf: "PDF", epub: "EPUB", markdown: "Markdown" }, write);
    const buttons = Object.values(this.#buttons);
    this.element = h("header", { className: "m2chat-header" }, this.#choice, ...buttons, this.#formats);
  }

  /** The choices of an export. @param {Object<string, string>} formats @param {(format: string) => void} write */
  #menuOf(formats, write) {
    const entries = Object.entries(formats).map(([format, label]) =>
      button(label, () => {
        this.#menu(false);
        write(format);
      }),
    );
    const about = { role: "group", "aria-label": t("Export as"), hidden: true };
    const menu = h("div", { className: "m2chat-menu", ...about }, ...entries);
    menu.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#menu(false);
    };
    // It closes when it loses the focus, even to nothing; but in some browsers a clicked button gets no focus.
    menu.addEventListener("focusout", ({ relatedTarget: to }) => {
      if (!menu.contains(/** @type {?Node} */ (to)) && to !== this.#buttons.write && !menu.matches(":hover")) {
        this.#menu(false);
      }
    });
    return menu;
  }

  /** @param {boolean} [shown] */
  #menu(shown = this.#formats.hidden) {
    const inside = this.#formats.contains(document.activeElement);
    this.#formats.hidden = !shown;
    this.#buttons.write.setAttribute("aria-expanded", String(shown));
    if (shown) /** @type {HTMLElement} */ (this.#formats.firstChild).focus();
    else if (inside) this.#buttons.write.focus();
  }

  /**
   * @param {import("./sessions.js").Summary[]} sessions
   * @param {string} name The one that is shown, or is about to be saved; empty for a new one.
   * @param {{busy: boolean, opens: boolean}} state Whether a run goes on, and whether there is a message.
   */
  show(sessions, name, { busy, opens }) {
    const options = sessions.map(({ name: other, error }) =>
      h("option", { value: other, disabled: Boolean(error), title: error }, error ? t("$ (damaged)", other) : other),
    );
    if (!sessions.some((other) => other.name === name)) options.unshift(h("option", { value: name }, name || t("New chat")));
    this.#choice.replaceChildren(...options);
    this.#choice.value = name;
    const { fresh, rename, remove, open, write } = this.#buttons;
    this.#choice.disabled = fresh.disabled = busy;
    rename.disabled = remove.disabled = busy || !name;
    open.disabled = write.disabled = busy || !opens;
  }
}
