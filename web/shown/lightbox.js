// A picture enlarged over the whole page: arrow keys go to its neighbours, Escape or a click closes it.

import { h } from "../chat/elements.js";
import { t } from "../chat/texts.js";

/**
 * Show one of several pictures enlarged.
 *
 * @param {{src: string, caption: string}[]} pictures
 * @param {number} [index] Which one.
 */
export function enlarge(pictures, index = 0) {
  const image = h("img", { className: "m2chat-large" });
  const caption = h("p", { className: "m2chat-large-caption", dir: "auto" });
  const place = h("span", { className: "m2chat-large-place" });
  const close = h("button", { type: "button", className: "m2chat-large-close", title: t("Close"), "aria-label": t("Close") }, "×");
  const arrow = (by, sign, label) =>
    h("button", { type: "button", className: "m2chat-large-arrow", title: label, "aria-label": label, onclick: () => go(by) }, sign);
  const several = pictures.length > 1;
  const dialog = h(
    "dialog",
    { className: "m2chat-lightbox", "aria-label": t("Picture") },
    close,
    several && arrow(-1, "‹", t("Previous picture")),
    h("figure", {}, image, h("figcaption", {}, caption, several && place)),
    several && arrow(1, "›", t("Next picture")),
  );
  const go = (by) => {
    index = (index + by + pictures.length) % pictures.length;
    const { src, caption: text } = pictures[index];
    Object.assign(image, { src, alt: text || t("Picture") });
    caption.textContent = text;
    place.replaceChildren(`${index + 1} / ${pictures.length}`);
  };
  dialog.addEventListener("click", ({ target }) => {
    if (!(/** @type {Element} */ (target).closest(".m2chat-large-arrow"))) dialog.close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation(); // no shortcuts of ComfyUI
    if (several && event.key === "ArrowLeft") go(-1);
    if (several && event.key === "ArrowRight") go(1);
    if (event.key === "Escape") dialog.close();
  });
  go(0);
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}
