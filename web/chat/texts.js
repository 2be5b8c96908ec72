// The panel's texts in the page's language, by their English. They lie beside those of the nodes, in locales/.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

let texts = {};

/** Read the texts of the page's language; where they cannot be had, the panel speaks English. */
export async function loadTexts() {
  try {
    const all = await (await api.fetchApi("/i18n")).json();
    texts = all[app.extensionManager.setting.get("Comfy.Locale")]?.m2chatPanel ?? {};
  } catch (error) {
    console.warn("M2Chat: the texts of this language cannot be read.", error);
  }
}

/**
 * A text in the page's language; what has no translation is shown in English.
 *
 * @param {string} english Each $ in it stands for one of the values.
 * @param {...(string | number)} values
 */
export const t = (english, ...values) => {
  const parts = (texts[english] ?? english).split("$");
  return parts.map((part, index) => (index ? `${values[index - 1]}${part}` : part)).join("");
};
