// The models of a chat: the starter's, or those of the workflow on the canvas.

import { app } from "../../../scripts/app.js";
import { t } from "./texts.js";

const PARTS = {
  language_model: "M2CHAT_LANGUAGE_MODEL",
  vision_encoder: "M2CHAT_VISION_ENCODER",
  adapter: "M2CHAT_ADAPTER",
  decoder: "M2CHAT_DECODER",
};

/** The names of the parts. */
const names = () => ({
  language_model: t("language model"),
  vision_encoder: t("vision encoder"),
  adapter: t("adapter"),
  decoder: t("painter"),
});

// Outputs of this name bring all that they need; those of a decoder want an adapter and a vision encoder beside them.
const PAINTER = "painter";

/**
 * @typedef {import("./graph.js").Graph} Graph
 * @typedef {import("./graph.js").Link} Link
 * @typedef {{nodes: Graph, links: Object<string, Link>}} Models The nodes that load them, and the output of each part
 *   that Take Turn needs.
 */

/** @returns {Models} */
function starter() {
  const id = "m2chat_starter";
  const node = { class_type: "M2Chat_LoadStarter", inputs: {} };
  return { nodes: { [id]: node }, links: { language_model: [id, 0], decoder: [id, 4] } };
}

/** @param {Graph} graph @param {string} id @param {Graph} found Gets the node, and all that it needs. */
function collect(graph, id, found) {
  if (id in found) return;
  found[id] = graph[id];
  for (const value of Object.values(graph[id].inputs)) {
    if (Array.isArray(value) && value[0] in graph) collect(graph, String(value[0]), found);
  }
}

/** Of several outputs of a kind, the first one that something on the canvas is fed by. @returns {Promise<Models>} */
async function ofCanvas() {
  const graph = (await app.graphToPrompt()).output;
  const used = new Set(Object.values(graph).flatMap(({ inputs }) => Object.values(inputs).map(String)));
  /** @type {Graph} */
  const nodes = {};
  /** @type {Object<string, Link>} */
  const links = {};
  const described = (id) => LiteGraph.registered_node_types[graph[id].class_type]?.nodeData;
  const find = (type) => {
    const outputs = Object.keys(graph).flatMap((id) =>
      (described(id)?.output ?? []).flatMap((kind, output) => (kind === type ? [[id, output]] : [])),
    );
    return outputs.find((output) => used.has(String(output))) ?? outputs[0];
  };
  const paints = find(PARTS.decoder);
  const whole = paints && described(paints[0]).output_name[paints[1]] === PAINTER;
  for (const [part, type] of Object.entries(PARTS)) {
    if (whole && part === "adapter") continue;
    const link = part === "decoder" ? paints : find(type);
    if (!link && whole && part === "vision_encoder") continue; // which sees the user's pictures, if there is one
    if (!link) {
      throw new Error(t("The workflow on the canvas loads no $: add its loader, or choose the starter.", names()[part]));
    }
    links[part] = link;
    collect(graph, link[0], nodes);
  }
  return { nodes, links };
}

/** @param {"starter" | "canvas"} source @returns {Promise<Models>} */
export const modelsOf = async (source) => (source === "canvas" ? ofCanvas() : starter());
