// Forms that open in place of a text, and keep what is typed in them while the transcript is redrawn.

import { button, h, isSend } from "./elements.js";
import { t } from "./texts.js";

/** The forms of a transcript. */
export class Forms {
  #around;
  #drafts = new Map(); // unsent texts, by the place of the text that they replace
  #reopen = []; // functions that open their forms
  #sent = ""; // the place of the text that was sent

  /** @param {() => HTMLElement} around What gets the focus where nothing else had it. */
  constructor(around) {
    this.#around = around;
  }

  /** What was sent in place of a text has been done, or else is shown again. @param {boolean} done */
  settle(done) {
    if (done) this.#drafts.delete(this.#sent);
    this.#sent = "";
  }

  /** Discard the unsent text of a place. */
  forget() {
    this.#drafts.clear();
  }

  /** Reopen the forms that were open before the transcript was redrawn. */
  reopen() {
    this.#reopen.splice(0).forEach((open) => open());
  }

  /**
   * A function that opens a form in place of `shown`, until it is sent or cancelled. Its text is kept until it has been
   * dealt with.
   *
   * @param {number[]} place
   * @param {HTMLElement} shown
   * @param {string} label
   * @param {string} text
   * @param {string} send
   * @param {(text: string) => void} done
   * @param {{lines?: boolean}} [how] Whether the text has several lines: Enter then begins the next one, and Ctrl+Enter
   *   sends.
   */
  editor(place, shown, label, text, send, done, { lines = false } = {}) {
    const key = String(place);
    const open = (asked) => {
      const value = this.#drafts.get(key) ?? text;
      const hint = lines ? label : "";
      const area = h("textarea", { className: "m2chat-input", value, rows: 3, dir: "auto", placeholder: hint, "aria-label": label });
      const leave = () => {
        this.#drafts.delete(key);
        form.replaceWith(shown);
        (before === document.body ? this.#around() : before).focus();
      };
      const submit = h("button", { type: "submit", className: "m2chat-button m2chat-primary" }, send);
      const tools = h("div", { className: "m2chat-tools" }, submit, button(t("Cancel"), leave));
      const form = h("form", { className: "m2chat-edit" }, area, tools);
      area.oninput = () => this.#drafts.set(key, area.value);
      form.onsubmit = (event) => {
        event.preventDefault();
        this.#drafts.set(key, area.value);
        this.#sent = key;
        area.readOnly = true; // what is typed from now on would be lost
        done(area.value);
      };
      form.onkeydown = (event) => {
        if (event.key === "Escape") leave();
        else if (event.target === area && isSend(event) && (!lines || event.ctrlKey || event.metaKey)) form.requestSubmit();
        else return;
        event.preventDefault();
        event.stopPropagation();
      };
      const before = /** @type {HTMLElement} */ (document.activeElement);
      shown.replaceWith(form);
      if (!asked && before !== document.body) return; // the user is typing elsewhere
      area.focus();
      form.scrollIntoView({ block: "nearest" });
    };
    if (this.#drafts.has(key)) this.#reopen.push(() => open(false));
    return open;
  }
}
