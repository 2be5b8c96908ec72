// What a node shows of its result: a conversation with its pictures where they belong, or a text. Text stays text.

import { api } from "../../../scripts/api.js";
import { h, words } from "../chat/elements.js";
import { t } from "../chat/texts.js";
import { enlarge } from "./lightbox.js";

export const LINE = 20; // height of a line of text on nodes, which show a few lines and scroll
export const TALLEST = 24 + 5 * LINE; // height of the longest texts

/**
 * @typedef {{filename: string, subfolder: string, type: string}} File As ComfyUI's /view takes it.
 * @typedef {{text: string}} Text
 * @typedef {{picture: ?File, caption: string}} Picture Without a file, it is not painted yet.
 * @typedef {Text | Picture} Segment
 * @typedef {{role: "system" | "user" | "assistant", segments: Segment[]}} Turn
 * @typedef {{text?: string[], turns?: Turn[], page?: File[], thoughts?: string[], notes?: string[]}} Output
 *   A node's `ui` result; `thoughts` are the model's thoughts in each reply, if any, and `notes` are sentences about
 *   the text: why a story ends early, what was left out of a conversation.
 */

const speakers = () => ({ system: t("Instructions"), user: t("You"), assistant: "M²Chat" });

/** The address of a file that ComfyUI serves as it is. @param {File} file */
const address = ({ filename, subfolder, type }) =>
  api.apiURL(`/view?${new URLSearchParams({ filename, subfolder: subfolder ?? "", type: type ?? "output" })}`);

/** The address of an exported file; /view offers web pages as downloads, so the pack has its own route for them. */
export function pageAddress(file) {
  if (!file.filename.endsWith(".html")) return address(file);
  const path = [...(file.subfolder ?? "").split(/[\\/]/), file.filename].filter(Boolean).map(encodeURIComponent);
  return api.apiURL(`/m2chat/pages/${path.join("/")}`);
}

/**
 * The elements that show an output, in reading order.
 *
 * @param {Output} output
 * @returns {HTMLElement[]}
 */
export function elementsOf(output) {
  if (Array.isArray(output.turns)) return conversation(output.turns);
  const text = plain(output);
  const links = (output.page ?? []).map((file) =>
    h("a", { className: "m2chat-shown-link", href: pageAddress(file), target: "_blank", rel: "noopener noreferrer" }, t("Open $", file.filename)),
  );
  const notes = texts(output.notes).map((note) => words(note, "m2chat-shown-words m2chat-shown-note"));
  return [...links, ...notes, ...thoughts(output), ...(text ? [words(text, "m2chat-shown-words")] : [])];
}

/** What was thought, folded: it is no part of the text. @param {Output} output */
const thoughts = ({ thoughts: given }) => {
  const thought = texts(given).join("\n\n");
  if (!thought) return [];
  const fold = h("details", { className: "m2chat-shown-thoughts" }, h("summary", {}, t("Thoughts")), words(thought, "m2chat-shown-words"));
  return [fold];
};

/** An output's text, as it is shown. @param {Output} output */
export const plain = (output) => texts(output.text).join("\n\n").trim();

/** Those of a list that say something. @param {string[]} [given] */
const texts = (given) => (given ?? []).filter((text) => text?.trim?.());

/** @param {Turn[]} turns */
function conversation(turns) {
  if (!turns.length) return [h("p", { className: "m2chat-shown-empty" }, t("The conversation is empty."))];
  const large = []; // the pictures that can be enlarged, in order
  return turns.map(({ role, segments }) =>
    h(
      "section",
      { className: `m2chat-shown-turn m2chat-shown-${role}` },
      h("h4", { className: "m2chat-shown-speaker" }, speakers()[role]),
      ...segments.map((segment) => ("picture" in segment ? picture(segment, large) : text(segment))),
    ),
  );
}

/** @param {Text} segment */
const text = (segment) => segment.text.trim() && words(segment.text.trim(), "m2chat-shown-words");

/** @param {Picture} segment @param {{src: string, caption: string}[]} large */
function picture({ picture: file, caption }, large) {
  const below = caption && h("figcaption", { dir: "auto" }, caption);
  if (!file) return h("figure", { className: "m2chat-shown-open" }, h("span", {}, t("Not painted yet")), below);
  const src = address(file);
  const place = large.push({ src, caption: caption ?? "" }) - 1;
  const image = h("img", { src, alt: caption || t("Picture"), loading: "lazy", draggable: false });
  const frame = h(
    "button",
    { type: "button", className: "m2chat-shown-picture", title: t("Enlarge"), onclick: () => enlarge(large, place) },
    image,
  );
  // ComfyUI deletes its temporary pictures when it starts.
  image.onerror = () => frame.replaceWith(h("span", { className: "m2chat-shown-gone" }, t("This picture is gone: run again.")));
  return h("figure", {}, frame, below);
}
