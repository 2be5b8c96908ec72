// Copies a text, even where the browser denies pages its clipboard (ComfyUI over plain HTTP in a network).

import { button, h } from "./elements.js";
import { t } from "./texts.js";

const SAID = 1500; // milliseconds that the outcome is shown

/** @param {string} text @returns {Promise<boolean>} Whether it was copied. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = /** @type {?HTMLElement} */ (document.activeElement);
    const area = h("textarea", { className: "m2chat-spoken", value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus?.();
    return done;
  }
}

/** A button that copies. @param {() => string} text @param {string} label What is copied. */
export function copyButton(text, label) {
  const made = button(t("Copy"), async () => {
    made.textContent = (await copy(text())) ? t("Copied") : t("Not copied: this browser forbids it");
    setTimeout(() => (made.textContent = t("Copy")), SAID);
  });
  made.setAttribute("aria-label", label);
  return made;
}
