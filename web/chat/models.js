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
  decoder: t("decoder"),
});

/**
 * @typedef {import("./graph.js").Graph} Graph
 * @typedef {import("./graph.js").Link} Link
 * @typedef {{nodes: Graph, links: Object<string, Link>}} Models The nodes that load them, and each part's output.
 */

/** @returns {Models} */
function starter() {
  const id = "m2chat_starter";
  const links = Object.fromEntries(Object.keys(PARTS).map((part, output) => /** @type {[string, Link]} */ ([part, [id, output]])));
  return { nodes: { [id]: { class_type: "M2Chat_LoadStarter", inputs: {} } }, links };
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
  for (const [part, type] of Object.entries(PARTS)) {
    const outputs = Object.entries(graph).flatMap(([id, { class_type }]) =>
      (LiteGraph.registered_node_types[class_type]?.nodeData?.output ?? []).flatMap((kind, output) =>
        kind === type ? [[id, output]] : [],
      ),
    );
    const link = outputs.find((output) => used.has(String(output))) ?? outputs[0];
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
