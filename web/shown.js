// What nodes show: the text of a result stays on its node when the run has ended, after a reload, when tabs are switched,
// when nothing had to run again, and after an undo. ComfyUI's own text on a node lasts only while it runs.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { loadTexts } from "./chat/texts.js";
import { elementsOf, LINE, plain, TALLEST } from "./shown/view.js";
import { Memory, shownOf } from "./shown/memory.js";

const OURS = "M2Chat_";
const CONVERSATION = "M2Chat_ShowConversation";
const WIDGET = "m2chat_shown";
const COMFYS = "$$node-text-preview"; // ComfyUI's widget for the text of a running node
const MARK = "m2chatShown"; // in a workflow's `extra`: it identifies the workflow
const SIZE = [420, 520]; // of a new Show Conversation
const ROOM = 200; // minimum height of its view in pixels
const MOST = 1000; // entries of each of the maps below

const memory = new Memory();
const runs = new Map(); // the mark of the workflow that was queued, by the id of the run
const owners = new Map(); // the mark of the workflow whose run gave a result, by the node's id and the result
let job; // the id of the current run
const places = new Map(); // weak references to the element of each node, by its workflow and id

const root = () => app.rootGraph ?? app.graph;
const isOurs = (node) => node.comfyClass?.startsWith(OURS);

/** All nodes of the workflow, also those inside subgraphs, by their execution id. @returns {Generator<[string, *]>} */
function* nodesOf(graph, path = "") {
  for (const node of graph.nodes) {
    yield [`${path}${node.id}`, node];
    if (node.subgraph) yield* nodesOf(node.subgraph, `${path}${node.id}:`);
  }
}

/** The mark of the workflow on the canvas, which gets one if it has none. */
function markOf(graph) {
  graph.extra ??= {};
  // Not crypto.randomUUID, which pages served over plain HTTP from another machine lack.
  return (graph.extra[MARK] ??= crypto.getRandomValues(new Uint32Array(4)).join("-"));
}

/** Mark a workflow as soon as one of our nodes is added, so that running the node does not count as a change. */
function markWhenAdded(node) {
  const added = node.onAdded;
  node.onAdded = function (graph, ...more) {
    added?.call(this, graph, ...more);
    // The chat lays out its messages in separate graphs, which have nothing to do with the workflow on the canvas.
    if (root() && (graph?.rootGraph ?? graph) === root()) markOf(root());
  };
}

/** The output that ComfyUI itself remembers for a node. */
function outputOf(id, node, mark) {
  const place = node.graph === root() ? `${node.id}` : `${node.graph.id}:${node.id}`;
  const output = shownOf(app.nodeOutputs?.[place]);
  // It assigns any result to the node with that id on the canvas, even if another workflow has run.
  const owner = output && owners.get(id + JSON.stringify(output));
  return owner && owner !== mark ? null : output;
}

/** The minimum height for a text: about its own, up to a few lines. @param {string} text */
function roomFor(text) {
  const lines = text.split("\n").reduce((sum, line) => sum + 1 + Math.floor(line.length / 48), 0);
  return Math.min(24 + LINE * lines, TALLEST);
}

/** The widget in which a node shows its result; it is not saved with the workflow. */
function widgetOf(node) {
  const present = node.widgets?.find((widget) => widget.name === WIDGET);
  if (present) return present;
  const element = document.createElement("div");
  element.className = "m2chat-shown";
  element.tabIndex = 0;
  element.dataset.captureWheel = "true"; // with the focus, the wheel scrolls it instead of the canvas
  element.addEventListener("copy", (event) => event.stopPropagation()); // the text, not the nodes
  let output = null;
  const room = () => {
    if (node.comfyClass === CONVERSATION) return ROOM;
    const fold = element.querySelector("details");
    const thoughts = fold ? LINE + (fold.open ? roomFor(fold.lastChild.textContent) : 0) : 0;
    const texts = [...(output?.notes ?? []), plain(output ?? {})];
    return roomFor(texts.join("\n\n")) + LINE * (output?.page?.length ?? 0) + thoughts;
  };
  const widget = node.addDOMWidget(WIDGET, "m2chat_shown", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: room,
    getValue: () => plain(output ?? {}),
    setValue: () => {}, // the text comes from results alone
  });
  widget.serialize = false;
  const fit = () => {
    element.style.minHeight = `${room()}px`; // for Nodes 2.0, which ask the element
    const [width, height] = node.size;
    const needed = node.computeSize()[1];
    if (needed > height) node.setSize([width, needed]);
    node.setDirtyCanvas?.(true, true);
  };
  element.addEventListener("toggle", fit, true); // thoughts that are unfolded
  widget.show = (given) => {
    // Unchanged content stays in place, with its scroll position and unfolded thoughts.
    if (JSON.stringify(given) !== JSON.stringify(output)) element.replaceChildren(...elementsOf(given));
    output = given;
    fit();
  };
  return widget;
}

/** Show an output on a node; a node without one stays as it is. @param {*} node @param {?import("./shown/view.js").Output} output */
function show(node, output) {
  if (!output || (!plain(output) && !output.turns && !node.widgets?.some((widget) => widget.name === WIDGET))) return;
  widgetOf(node).show(output);
}

/** Nodes 2.0 keeps the old element of a node that an undo has recreated: put the new one in its place. */
function keepPlace(key, node) {
  const element = node.widgets?.find((widget) => widget.name === WIDGET)?.element;
  if (!element) return;
  const before = places.get(key)?.deref();
  places.delete(key); // so that the oldest comes first
  places.set(key, new WeakRef(element));
  if (places.size > MOST) places.delete(places.keys().next().value);
  if (LiteGraph.vueNodesMode && before?.isConnected && !element.isConnected) before.replaceWith(element);
}

/** Show again what the nodes on the canvas have shown before. */
function restore() {
  const graph = root();
  const nodes = [...nodesOf(graph)].filter(([, node]) => isOurs(node));
  if (!nodes.length) return;
  const mark = markOf(graph);
  const { outputs } = memory.of(mark);
  for (const [id, node] of nodes) {
    try {
      show(node, outputOf(id, node, mark) ?? outputs[id]);
    } catch (error) {
      console.warn(`M2Chat: the earlier output of node ${id} cannot be shown again.`, error); // the browser's copy was changed
    }
    keepPlace(`${mark} ${id}`, node);
  }
}

/** Fetch the outputs of a run that ended while the page was closed. */
async function catchUp() {
  const graph = root();
  const mark = graph.extra?.[MARK];
  if (!mark || ![...nodesOf(graph)].some(([, node]) => isOurs(node))) return;
  const query = new URLSearchParams({ workflow_id: graph.id, status: "completed,failed", limit: "1" });
  const answer = await api.fetchApi(`/jobs?${query}`);
  const last = answer.ok ? (await answer.json()).jobs?.[0]?.id : undefined;
  if (!last || last === memory.of(mark).job) return;
  const entry = (await (await api.fetchApi(`/history/${last}`)).json())[last];
  if (entry?.prompt?.[3]?.extra_pnginfo?.workflow?.extra?.[MARK] !== mark) return;
  const outputs = Object.entries(entry.outputs ?? {}).map(([id, output]) => [id, shownOf(output)]);
  memory.add(mark, last, Object.fromEntries(outputs.filter(([, output]) => output)));
  if (root() === graph && graph.extra?.[MARK] === mark) restore();
}

/** Whether a run belongs to a workflow other than that on the canvas. */
const isForeign = (id) => runs.has(id) && runs.get(id) !== root().extra?.[MARK];

/** One of our nodes on the canvas. @param {string} id As a run names it. */
function find(id) {
  for (const [path, node] of nodesOf(root())) if (path === id && isOurs(node)) return node;
  return undefined;
}

/** While a node runs, its text grows where its result will be shown, and is hidden in ComfyUI's own widget. */
function onText({ detail }) {
  const node = find(String(detail.nodeId));
  if (!node) return;
  const foreign = isForeign(detail.prompt_id ?? job); // older front ends do not say whose text it is
  if (!foreign && node.comfyClass !== CONVERSATION) show(node, { text: [detail.text] });
  queueMicrotask(() => {
    for (const widget of node.widgets?.filter(({ name }) => name === COMFYS) ?? []) {
      widget.hidden = true;
      widget.options.hidden = true;
    }
  });
}

/** Handle a node's result, from this run or from the cache. */
function onExecuted({ detail }) {
  const output = shownOf(detail.output);
  if (!output) return;
  const id = String(detail.display_node ?? detail.node);
  const node = isForeign(detail.prompt_id) ? undefined : find(id);
  if (node) {
    show(node, output);
    keepPlace(`${markOf(root())} ${id}`, node);
  }
  const mark = runs.get(detail.prompt_id) ?? (node && markOf(root()));
  if (!mark) return;
  memory.add(mark, detail.prompt_id, { [id]: output });
  owners.set(id + JSON.stringify(output), mark);
  if (owners.size > MOST) owners.delete(owners.keys().next().value);
}

/** Remember the workflow of each run, because results arrive whatever is on the canvas by then. */
function watchQueue() {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (number, prompt, ...more) {
    const answer = await queue.call(this, number, prompt, ...more);
    if (answer?.prompt_id) runs.set(answer.prompt_id, prompt?.workflow?.extra?.[MARK] ?? null);
    if (runs.size > MOST) runs.delete(runs.keys().next().value);
    return answer;
  };
}

app.registerExtension({
  name: "M2Chat.Shown",
  async setup() {
    await loadTexts();
    const href = new URL("shown/shown.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
    watchQueue();
    api.addEventListener("execution_start", ({ detail }) => (job = detail.prompt_id));
    api.addEventListener("progress_text", onText);
    api.addEventListener("executed", onExecuted);
  },
  nodeCreated(node) {
    if (isOurs(node)) markWhenAdded(node);
    if (node.comfyClass !== CONVERSATION) return;
    node.hideOutputImages = true; // they stand in the conversation
    node.onDrawBackground = () => {}; // what draws them in the classic canvas
    node.setSize(SIZE);
    widgetOf(node);
  },
  async afterConfigureGraph() {
    restore();
    void catchUp().catch((error) => console.warn("M2Chat: the outputs of the last run could not be requested.", error));
  },
  onNodeOutputsUpdated: restore,
});
