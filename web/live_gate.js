// Live gate: when "live" is switched on at a Fuse M3-Adapter or Gate References, turning its gate repaints the pictures
// after it, with a few steps while the hand still moves and with all of them when it rests. The workflow is queued as it
// is, so ComfyUI's cache skips everything before the gate; without this script, you would press Run instead.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { refusal } from "./chat/server.js";
import { t } from "./chat/texts.js";

const GATES = ["M2Chat_FuseM3Adapter", "M2Chat_GateReferences"];
const PAINTS = ["M2Chat_Decode", "KSampler"];
const PREVIEW_STEPS = 4;
const PREVIEW_AFTER = 120; // milliseconds without a change
const FULL_AFTER = 800;
const SAID = 8000; // milliseconds that a message stays on the screen

const queued = new Set(); // the ids of our runs that have not ended
for (const ending of ["execution_success", "execution_error", "execution_interrupted"]) {
  api.addEventListener(ending, ({ detail }) => queued.delete(detail?.prompt_id));
}

let said = ""; // the message on the screen: it is not repeated while the hand moves on

/** Say in ComfyUI's way why something was not painted. @param {Error} error */
function complain({ message }) {
  if (message === said) return;
  said = message;
  setTimeout(() => (said = ""), SAID);
  app.extensionManager.toast.add({ severity: "error", summary: t("Live gate"), detail: message, life: SAID });
}

/** The ids of all nodes of a prompt that need node `start`, itself among them. */
function behind(prompt, start) {
  const found = new Set([start]);
  for (let before = 0; before !== found.size; ) {
    before = found.size;
    for (const [id, node] of Object.entries(prompt)) {
      if (Object.values(node.inputs).some((value) => Array.isArray(value) && found.has(String(value[0])))) found.add(id);
    }
  }
  return found;
}

/** The id of one of the page's nodes in a prompt, in which ids inside subgraphs begin with their parents' ids. */
function idIn(prompt, node) {
  const own = String(node.id);
  const fits = (id) => prompt[id].class_type === node.comfyClass && (id === own || id.endsWith(`:${own}`));
  return Object.keys(prompt).find(fits);
}

/** Cancel what was queued for a gate that has been turned further since. */
async function withdraw() {
  for (const id of [...queued]) {
    queued.delete(id);
    await api.deleteItem("queue", id);
    await api.interrupt(id);
  }
}

/** Queue the nodes that show the result of `node`; `steps` is the maximum for painting its pictures. */
async function paint(node, steps) {
  const { output, workflow } = await app.graphToPrompt();
  const start = idIn(output, node);
  if (start === undefined) return; // muted, or gone
  const needed = behind(output, start);
  const shows = (id) => LiteGraph.registered_node_types[output[id].class_type]?.nodeData?.output_node;
  const targets = [...needed].filter(shows);
  if (!targets.length) return;
  for (const id of steps ? needed : []) {
    const { class_type, inputs } = output[id];
    if (PAINTS.includes(class_type) && typeof inputs.steps === "number") inputs.steps = Math.min(inputs.steps, steps);
  }
  try {
    const answer = await api.queuePrompt(0, { output, workflow }, { partialExecutionTargets: targets });
    queued.add(answer.prompt_id);
  } catch (error) {
    throw new Error(refusal(error), { cause: error });
  }
}

app.registerExtension({
  name: "M2Chat.LiveGate",
  nodeCreated(node) {
    if (!GATES.includes(node.comfyClass)) return;
    const gate = node.widgets?.find((widget) => widget.name === "gate");
    if (!gate) return;
    // No picture depends on it, so it is neither among the widgets' values nor in the prompt. A workflow keeps it as a
    // property, so that it can be opened with `live` switched on.
    const live = node.addWidget("toggle", "live", false, (value) => (node.properties.live = value), {
      serialize: false,
      tooltip: "Paint again while the gate is turned: with few steps while the hand moves, with all when it rests.",
    });
    live.serialize = false;
    const configured = node.onConfigure;
    node.onConfigure = function (...given) {
      configured?.apply(this, given);
      live.value = Boolean(this.properties.live);
    };
    let timers = [];
    const later = (wait, steps) => setTimeout(() => paint(node, steps).catch(complain), wait);
    const removed = node.onRemoved;
    node.onRemoved = function (...given) {
      timers.forEach(clearTimeout); // another workflow may have a node with its id
      return removed?.apply(this, given);
    };
    const before = gate.callback;
    gate.callback = function (...given) {
      const result = before?.apply(this, given);
      timers.forEach(clearTimeout);
      if (live.value) {
        withdraw().catch(complain);
        timers = [later(PREVIEW_AFTER, PREVIEW_STEPS), later(FULL_AFTER)];
      }
      return result;
    };
  },
});
