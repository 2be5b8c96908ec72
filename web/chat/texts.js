// The panel's texts in the page's language, by their English. They are in locales/, like those of the nodes.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

let texts = {};

/** Load the texts of the page's language; if that fails, the panel is in English. */
export async function loadTexts() {
  try {
    const all = await (await api.fetchApi("/i18n")).json();
    texts = all[app.extensionManager.setting.get("Comfy.Locale")]?.m2chatPanel ?? {};
  } catch (error) {
    console.warn("M2Chat: the texts of this language cannot be read.", error);
  }
}

/**
 * A text in the page's language, or in English if there is no translation.
 *
 * @param {string} english Each $ in it stands for one of the values.
 * @param {...(string | number)} values
 */
export const t = (english, ...values) => {
  const parts = (texts[english] ?? english).split("$");
  return parts.map((part, index) => (index ? `${values[index - 1]}${part}` : part)).join("");
};
