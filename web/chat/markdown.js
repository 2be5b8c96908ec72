// Markdown as elements. The parser gives tokens, and each token becomes an element with plain text: HTML is never
// parsed, pictures are never fetched, and links lead to the web or nowhere.

import { Lexer } from "../vendor/marked.esm.js";
import { h } from "./elements.js";

const MOST = 20000; // characters: longer texts are shown as they are
const OPTIONS = { gfm: true, breaks: true };
const INLINE = { strong: "strong", em: "em", del: "s" };

/**
 * A model's text: like `words` of the elements, with Markdown.
 *
 * @param {string} text
 */
export const prose = (text) =>
  h("div", { className: "m2chat-words m2chat-prose", dir: "auto" }, ...markdown(text));

/**
 * @param {string} text What a model wrote.
 * @returns {(Node | string)[]}
 */
function markdown(text) {
  if (text.length > MOST) return [text];
  try {
    return blocks(new Lexer(OPTIONS).lex(text));
  } catch (error) {
    console.warn("M2Chat: a text cannot be parsed as Markdown, and is shown as it is.", error);
    return [text];
  }
}

const blocks = (tokens) => tokens.map(block).filter((made) => made !== null);
const inlines = (tokens) => tokens.flatMap(inline);

/** Anything else is shown as it was written. */
function block(token) {
  switch (token.type) {
    case "space":
      return null;
    case "paragraph":
      return h("p", { dir: "auto" }, ...inlines(token.tokens));
    case "text":
      return h("span", {}, ...(token.tokens ? inlines(token.tokens) : [token.raw]));
    case "heading":
      return h("p", { className: "m2chat-heading", role: "heading", "aria-level": token.depth }, ...inlines(token.tokens));
    case "blockquote":
      return h("blockquote", {}, ...blocks(token.tokens));
    case "hr":
      return h("hr");
    case "code":
      return h("pre", {}, h("code", {}, token.text));
    case "list":
      return h(token.ordered ? "ol" : "ul", token.ordered ? { start: token.start || 1 } : {}, ...token.items.map(item));
    case "table":
      return table(token);
    default:
      return h("p", { dir: "auto" }, token.raw.trim());
  }
}

const item = (token) => h("li", {}, token.task && (token.checked ? "☑ " : "☐ "), ...blocks(listed(token)));

/** The tokens of an item without its checkbox, which is shown before it. */
const listed = (token) => token.tokens.filter(({ type }) => type !== "checkbox");

function table({ header, rows }) {
  const row = (tag, cells) => h("tr", {}, ...cells.map(({ tokens }) => h(tag, {}, ...inlines(tokens))));
  return h("table", {}, h("thead", {}, row("th", header)), h("tbody", {}, ...rows.map((cells) => row("td", cells))));
}

/** @returns {(Node | string) | (Node | string)[]} */
function inline(token) {
  if (token.type in INLINE) return h(INLINE[token.type], {}, ...inlines(token.tokens));
  switch (token.type) {
    case "text":
      return token.tokens ? inlines(token.tokens) : token.raw;
    case "escape":
      return token.text;
    case "br":
      return "\n"; // white space is preserved, so copying keeps it
    case "codespan":
      return h("code", {}, token.text);
    case "link":
      return link(token);
    default:
      return token.raw; // including HTML and pictures
  }
}

/** A link that shows its address; a link to anything but the web stays text. */
function link({ href, raw, tokens }) {
  let target = null;
  try {
    target = new URL(href);
  } catch {
    return raw; // a relative address would lead into ComfyUI
  }
  if (!["http:", "https:", "mailto:"].includes(target.protocol)) return raw;
  const to = { href: target.href, title: target.href, target: "_blank", rel: "noopener noreferrer" };
  return h("a", to, ...inlines(tokens));
}
