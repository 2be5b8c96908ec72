// Exports a session as a file to read, written by Export Story into ComfyUI's output folder.

import { pageAddress } from "../shown/view.js";
import { h } from "./elements.js";
import { ask } from "./server.js";
import { t } from "./texts.js";

/** @typedef {import("./graph.js").Graph} Graph */

const NODE = "M2Chat_ExportStory";

/** What a format's own inputs are, where nobody says anything else. @param {string} format */
async function defaults(format) {
  const info = (await ask(`/object_info/${NODE}`))[NODE].input;
  const [, { options }] = { ...info.required, ...info.optional }.format;
  const { required = {}, optional = {} } = options.find(({ key }) => key === format).inputs;
  const values = Object.entries({ ...required, ...optional }).map(([name, [type, how = {}]]) => {
    const choices = how.options ?? (Array.isArray(type) ? type : []);
    return [`format.${name}`, how.default ?? choices[0]];
  });
  return Object.fromEntries(values);
}

/** One export: the workflow that is queued for it, and its result. */
export class Book {
  #page = null;
  #notes = [];

  /**
   * The workflow that writes a session.
   *
   * @param {string} name
   * @param {string} format As the node calls it.
   * @param {string} user Whose session it is, where ComfyUI has several users.
   * @returns {Promise<Graph>}
   */
  async graph(name, format, user) {
    const folder = name.replaceAll("%", " ").trim(); // % begins a placeholder of ComfyUI's
    const inputs = { conversation: ["m2chat_session", 0], filename_prefix: `M2Chat/${folder}`, format };
    Object.assign(inputs, await defaults(format));
    return {
      m2chat_session: { class_type: "M2Chat_LoadSession", inputs: { name, ...(user && { user }) } },
      m2chat_export: { class_type: NODE, inputs },
    };
  }

  /** Takes a node's output. */
  result = (node, { page, text }) => {
    if (!page) return;
    [this.#page] = page;
    this.#notes = (text ?? []).slice(1);
  };

  /** What was written, with a link, and what a reader has to know about it. @returns {(Node | string)[]} */
  get told() {
    if (!this.#page) return [];
    const { type, subfolder, filename } = this.#page;
    const link = h("a", { href: pageAddress(this.#page), target: "_blank", rel: "noopener noreferrer" }, filename);
    const folder = [type, ...subfolder.split(/[\\/]/)].filter(Boolean).join("/");
    return [t("Written to $: ", folder), link, ...this.#notes.map((note) => h("div", { dir: "auto" }, note))];
  }
}
