// The characters of a session and what they look like: the sheet that captions carry.

import { button, h, words } from "./elements.js";
import { Forms } from "./forms.js";
import { t } from "./texts.js";

/** @typedef {import("./sessions.js").Character} Character */

/** Shows the character sheet, and lets it be edited. */
export class Cast {
  #save;

  /** @param {(sheet: string) => void} save Gets a line for each character. */
  constructor(save) {
    this.#save = save;
    this.forms = new Forms(() => this.element);
    this.body = h("div", { className: "m2chat-sheet" });
    this.count = h("span", {});
    const head = h("summary", {}, t("Characters"), " ", this.count);
    this.element = h("details", { className: "m2chat-cast", hidden: true }, head, this.body);
  }

  /**
   * @param {Character[]} cast
   * @param {{saved: boolean, busy: boolean}} state Whether there is a session, and whether a run goes on.
   */
  show(cast, { saved, busy }) {
    this.element.hidden = !saved;
    this.count.textContent = cast.length ? `(${cast.length})` : "";
    const list = cast.map(({ name, looks }) => h("li", { dir: "auto" }, h("b", {}, name), looks ? `: ${looks}` : ""));
    const shown = list.length
      ? h("ul", {}, ...list)
      : words(
          t("Nobody yet. Say what characters look like, and every picture that names them is painted so."),
          "m2chat-hint",
        );
    const text = cast.map(({ name, looks }) => `${name}: ${looks}`.trim()).join("\n");
    const label = t("What characters look like, one on each line, such as Rosa: a small red fox");
    const edit = this.forms.editor([0], shown, label, text, t("Save"), (sheet) => this.#save(sheet), {
      lines: true,
    });
    const tools = h("div", { className: "m2chat-tools" }, button(t("Edit"), edit, { "aria-label": t("Edit the characters") }));
    this.body.replaceChildren(shown, ...(busy ? [] : [tools]));
    this.forms.reopen();
  }
}
