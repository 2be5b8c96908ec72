// Pictures that are dropped anywhere on the panel: files, and pictures of this page.

import { h } from "./elements.js";
import { t } from "./texts.js";

const LINKS = "text/uri-list";

const brings = (data) => [...(data?.types ?? [])].some((type) => type === "Files" || type === LINKS);

/**
 * The pictures in a drop.
 *
 * @param {DataTransfer} data
 * @returns {Promise<File[]>} Of a picture that ComfyUI itself shows only the address is dragged, so it is fetched.
 */
async function filesOf(data) {
  const files = [...data.files];
  const links = data.getData(LINKS).split(/\r?\n/).filter((line) => line && !line.startsWith("#"));
  if (files.length) return files;
  const ours = links.filter((link) => new URL(link, location.href).origin === location.origin);
  return Promise.all(
    ours.map(async (link) => {
      const blob = await (await fetch(link)).blob();
      return new File([blob], "picture", { type: blob.type });
    }),
  );
}

/**
 * Let an element accept drops; it is highlighted while something is dragged over it.
 *
 * @param {HTMLElement} element
 * @param {(files: File[]) => void} take
 */
export function takeDrops(element, take) {
  const sign = h("div", { className: "m2chat-drop", hidden: true }, h("span", {}, t("Drop pictures to attach them")));
  element.append(sign);
  let inside = 0; // elements that the pointer has entered and not left
  const over = (event) => {
    if (!brings(event.dataTransfer)) return;
    event.preventDefault();
    event.stopPropagation(); // elsewhere on the page, a drop becomes a node
    if (event.type === "dragenter") inside++;
    sign.hidden = false;
    event.dataTransfer.dropEffect = "copy";
  };
  const ends = () => {
    inside = 0;
    sign.hidden = true;
  };
  element.addEventListener("dragenter", over);
  element.addEventListener("dragover", over);
  element.addEventListener("dragleave", () => --inside > 0 || ends());
  document.addEventListener("dragend", ends);
  element.addEventListener("drop", async (event) => {
    ends();
    if (!brings(event.dataTransfer)) return;
    event.preventDefault();
    event.stopPropagation();
    // An address that no longer leads to a picture counts as an empty drop, which the composer reports.
    take(await filesOf(event.dataTransfer).catch(() => []));
  });
}
