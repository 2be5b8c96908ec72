// A graph in API format as a workflow that opens on the canvas: nodes with places and sizes, links between them.

import { app } from "../../../scripts/app.js";
import { TALLEST } from "../shown/view.js";
import { t } from "./texts.js";

/** @typedef {import("./graph.js").Graph} Graph */

const COLUMN = 640; // height of a column of nodes, so that a whole reply is read at once on a small screen
const READABLE = 0.6; // the scale at which texts of nodes can still be read
const GAP = 30; // between nodes, and as high as their titles
const TALKING = "M2Chat_SaveSession"; // shows a text once it has run, and would grow over the node below

/** Places nodes in reading order: down a column, then the next one. */
function arrange(graph) {
  let [x, y, width] = [0, 0, 0];
  for (const node of graph.computeExecutionOrder(false)) {
    if (node.type === TALKING) node.size = [node.size[0], node.size[1] + TALLEST];
    const [wide, high] = node.size;
    if (y && y + high > COLUMN) [x, y, width] = [x + width + 2 * GAP, 0, 0];
    node.pos = [x, y];
    y += high + 2 * GAP;
    width = Math.max(width, wide);
  }
}

/** Where the canvas shows a placed graph, beside the panel: all of it, unless its texts could not be read then. */
function view(graph) {
  const panel = document.querySelector(".m2chat-panel")?.getBoundingClientRect().right ?? 0;
  const left = Math.max(0, panel - app.canvas.canvas.getBoundingClientRect().left) + GAP;
  const width = Math.max(...graph.nodes.map(({ pos, size }) => pos[0] + size[0]));
  const scale = Math.min(1, Math.max(READABLE, (app.canvas.canvas.clientWidth - left - GAP) / width));
  return { scale, offset: [left / scale, 130 / scale] };
}

/** Gives a node the values and links of its twin in the API graph. */
function fill(node, inputs, nodes) {
  for (const [name, value] of Object.entries(inputs)) {
    if (Array.isArray(value)) {
      const input = node.inputs.findIndex((each) => each.name === name);
      if (input >= 0) nodes[value[0]].connect(value[1], node, input);
      continue;
    }
    const widget = node.widgets?.find((each) => each.name === name);
    if (!widget) continue;
    widget.value = value;
    widget.callback?.(value);
  }
  // The message must stay the same, however often it runs.
  const control = node.widgets?.find((each) => each.name === "control_after_generate");
  if (control) control.value = "fixed";
}

/**
 * The workflow of a graph. It is laid out without touching the canvas.
 *
 * @param {Graph} api Its ids are numbers, as `forCanvas` makes them.
 * @returns {object | undefined} As ComfyUI saves workflows; undefined where a node is of a kind that is not installed.
 */
export function workflowOf(api) {
  const { LiteGraph } = window;
  if (Object.values(api).some(({ class_type: type }) => !(type in LiteGraph.registered_node_types))) return undefined;
  const graph = new LiteGraph.LGraph();
  graph.id = LiteGraph.uuidv4();
  const nodes = {};
  for (const [id, { class_type: type }] of Object.entries(api)) {
    nodes[id] = LiteGraph.createNode(type);
    nodes[id].id = Number(id);
    graph.add(nodes[id]);
  }
  // Twice, because some inputs only appear once others have their values.
  for (let round = 0; round < 2; round++) {
    for (const [id, { inputs }] of Object.entries(api)) fill(nodes[id], inputs, nodes);
  }
  arrange(graph);
  const workflow = graph.serialize();
  workflow.extra = { ...workflow.extra, ds: view(graph) };
  graph.clear();
  return workflow;
}

/** Puts a graph on the canvas, under a name. @param {Graph} api @param {string} name */
export async function open(api, name) {
  const workflow = workflowOf(api);
  if (!workflow) throw new Error(t("It cannot be opened: one of its nodes is no longer installed."));
  await app.loadGraphData(workflow, true, true, name);
}
