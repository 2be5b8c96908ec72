// A run of a workflow: it is queued, watched and, if asked, stopped.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { forCanvas } from "./graph.js";
import { ask, refusal } from "./server.js";
import { t } from "./texts.js";
import { workflowOf } from "./workflow.js";

/**
 * @typedef {{text: (node: string, text: string) => void, preview: (node: string, picture: Blob) => void,
 *   progress: (node: string, done: number, total: number) => void, thoughts: (node: string, text: string) => void,
 *   result: (node: string, output: *) => void, away: () => void}} Watcher Each is optional; `away` is called when
 *   ComfyUI no longer answers.
 * @typedef {{how: "done" | "stopped" | "failed", reason?: string, conflict?: boolean, kept?: boolean}} Ending `kept`
 *   if what had been told before it was stopped is saved.
 */

/** The workflow of a graph, which ComfyUI opens from its list of jobs instead of the one on the canvas. */
function drawn(graph) {
  try {
    return workflowOf(forCanvas(graph));
  } catch (error) {
    console.warn("M2Chat: the job goes without a workflow to open: this front end cannot draw one.", error);
    return undefined;
  }
}

/**
 * How ComfyUI is to make previews of a run: as its page's setting says, then as the server was started; and where neither says
 * anything, which means none, cheap ones: whoever chats wants to see what becomes of a picture.
 */
async function previewMethod() {
  const chosen = app.extensionManager.setting.get("Comfy.Execution.PreviewMethod");
  if (chosen && chosen !== "default") return chosen;
  try {
    const { system } = await ask("/system_stats");
    return system.argv.some((argument) => argument.startsWith("--preview-method")) ? "default" : "auto";
  } catch {
    return "auto";
  }
}

/** One run of a workflow. */
export class Run {
  #graph;
  #watcher;
  #id = null;
  #unwanted = false;
  #away = false; // whether ComfyUI does not answer
  #ended = new Map(); // by prompt id: a run may end before its id is known
  #settle;
  #ending = new Promise((resolve) => (this.#settle = resolve));

  /** @param {import("./graph.js").Graph} graph @param {Partial<Watcher>} watcher */
  constructor(graph, watcher) {
    this.#graph = graph;
    this.#watcher = watcher;
  }

  /** What ComfyUI calls it, once it is queued. @returns {?string} */
  get id() {
    return this.#id;
  }

  /** Queue it and wait for its end. @returns {Promise<Ending>} */
  async follow() {
    const listeners = this.#listeners();
    for (const [name, listener] of listeners) api.addEventListener(name, listener);
    try {
      const workflow = drawn(this.#graph);
      const how = { previewMethod: await previewMethod() };
      this.#id = (await api.queuePrompt(0, { output: this.#graph, workflow }, how)).prompt_id;
      this.#end();
      if (this.#unwanted) await this.stop();
      return await this.#ending;
    } catch (error) {
      return { how: "failed", reason: refusal(error) };
    } finally {
      for (const [name, listener] of listeners) api.removeEventListener(name, listener);
    }
  }

  /** Cancel it, or stop it within a step. If the server does not answer, it counts as failed, so nobody has to wait. */
  async stop() {
    this.#unwanted = true;
    if (!this.#id) return; // it is still being queued
    try {
      await api.deleteItem("queue", this.#id);
      await api.interrupt(this.#id);
    } catch (error) {
      console.warn("M2Chat: the request to stop has failed.", error); // its state is looked up next
    }
    await this.#look({ how: "stopped" });
  }

  #listeners() {
    const ours = (listener) => (event) => {
      const node = event.detail?.nodeId ?? event.detail?.node;
      if (node in this.#graph) listener(node, event.detail);
    };
    const ending = (how) => (event) => {
      const { prompt_id: id, exception_message: reason, node_type: type } = event.detail;
      this.#ended.set(id, { how, reason: reason?.trim(), conflict: type === "M2Chat_SaveSession" });
      this.#end();
    };
    return [
      ["progress_text", ours((node, { text }) => this.#watcher.text?.(node, text))],
      ["m2chat.thoughts", ours((node, { text }) => this.#watcher.thoughts?.(node, text))],
      ["b_preview_with_metadata", ours((node, { blob }) => this.#watcher.preview?.(node, blob))],
      ["progress", ours((node, { value, max }) => this.#watcher.progress?.(node, value, max))],
      ["executed", ours((node, { output }) => this.#watcher.result?.(node, output ?? {}))],
      ["execution_success", ending("done")],
      ["execution_interrupted", ending("stopped")],
      ["execution_error", ending("failed")],
      ["status", ({ detail }) => detail && this.#id && !this.#away && this.#look({ how: "stopped" })], // deleted, perhaps
      ["reconnecting", () => this.#lost()],
      ["reconnected", () => this.#found()],
    ];
  }

  #end() {
    if (this.#id && this.#ended.has(this.#id)) this.#settle(this.#ended.get(this.#id));
  }

  #lost() {
    this.#away = true;
    this.#watcher.away?.();
  }

  async #found() {
    await this.#look({ how: "failed", reason: t("ComfyUI was restarted in the meantime: try again.") });
    this.#away = false;
  }

  /**
   * Find out how it has ended: as `otherwise` says if it neither waits nor runs and did not succeed. If the server does
   * not answer, it counts as failed.
   */
  async #look(/** @type {Ending} */ otherwise) {
    try {
      const { queue_running: running, queue_pending: pending } = await ask("/queue");
      if ([...running, ...pending].some((item) => item[1] === this.#id)) return;
      const entry = (await ask(`/history/${this.#id}`))[this.#id];
      this.#settle(entry?.status?.status_str === "success" ? { how: "done" } : otherwise);
    } catch (error) {
      this.#settle({ how: "failed", reason: error.message });
    }
  }
}
