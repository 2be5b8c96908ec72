// Pictures that are dropped anywhere on the panel: files, and pictures of this page.

import { h } from "./elements.js";
import { t } from "./texts.js";

const LINKS = "text/uri-list";

const brings = (data) => [...(data?.types ?? [])].some((type) => type === "Files" || type === LINKS);

/**
 * What a drop brings.
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
 * Have an element take what is dropped on it; while something hangs over it, it says so.
 *
 * @param {HTMLElement} element
 * @param {(files: File[]) => void} take
 */
export function takeDrops(element, take) {
  const sign = h("div", { className: "m2chat-drop", hidden: true }, h("span", {}, t("Drop pictures to attach them")));
  element.append(sign);
  let inside = 0; // elements that it has entered and not left
  const over = (event) => {
    if (!brings(event.dataTransfer)) return;
    event.preventDefault();
    event.stopPropagation(); // on the rest of the page it would become a node
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
    // An address that leads nowhere any more is no picture, as the composer says of an empty drop.
    take(await filesOf(event.dataTransfer).catch(() => []));
  });
}
