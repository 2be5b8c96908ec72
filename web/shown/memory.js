// What nodes have shown, stored in the browser for each workflow, so that it survives a reload.

const PREFIX = "M2Chat.Shown.";
const MOST = 40; // workflows, in the browser's store as in the page
const KEPT = ["text", "turns", "page", "thoughts", "notes"];

/**
 * @typedef {import("./view.js").Output} Output
 * @typedef {{at: number, job: string, outputs: Object<string, Output>}} Record `at` is in milliseconds, `job` the run
 *   that came last; outputs are by the execution id of their nodes.
 */

/** @param {*} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** What is kept under a key of the browser; nothing of what is broken. @returns {?Record} */
function read(key) {
  try {
    const found = JSON.parse(localStorage.getItem(key));
    if (!isObject(found?.outputs)) return null;
    const outputs = Object.entries(found.outputs).map(([id, output]) => [id, shownOf(output)]);
    return { at: Number(found.at) || 0, job: String(found.job), outputs: Object.fromEntries(outputs.filter(([, output]) => output)) };
  } catch {
    return null; // damaged, or the browser stores nothing
  }
}

function keys() {
  return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
}

/** The parts of an output that are shown; null where there are none. @param {*} output @returns {?Output} */
export function shownOf(output) {
  if (!Array.isArray(output?.text) && !Array.isArray(output?.turns)) return null;
  return Object.fromEntries(KEPT.filter((part) => Array.isArray(output[part])).map((part) => [part, output[part]]));
}

/** What each workflow's nodes have shown. A workflow is identified by a mark that is saved with it. */
export class Memory {
  #records = new Map(); // by mark

  /** @param {string} mark @returns {Record} */
  of(mark) {
    const record = this.#records.get(mark) ?? read(PREFIX + mark) ?? { at: 0, job: "", outputs: {} };
    this.#records.delete(mark); // so that the least recently used comes first
    this.#records.set(mark, record);
    if (this.#records.size > MOST) this.#records.delete(this.#records.keys().next().value);
    return record;
  }

  /** @param {string} mark @param {string} job @param {Object<string, Output>} outputs What to add. */
  add(mark, job, outputs) {
    const record = this.of(mark);
    Object.assign(record.outputs, outputs);
    Object.assign(record, { at: Date.now(), job: job || record.job });
    this.#save(mark, record);
  }

  /** Store it; if the browser has no room, forget the oldest workflows. */
  #save(mark, record) {
    const age = (key) => read(key)?.at ?? 0;
    try {
      const others = keys().filter((key) => key !== PREFIX + mark).sort((one, other) => age(one) - age(other));
      for (const old of others.splice(0, others.length - MOST + 1)) localStorage.removeItem(old);
      const text = JSON.stringify(record);
      for (;;) {
        try {
          return localStorage.setItem(PREFIX + mark, text);
        } catch (error) {
          if (!others.length) throw error;
          localStorage.removeItem(others.shift());
        }
      }
    } catch (error) {
      console.warn("M2Chat: the browser does not keep what nodes show; after a reload it will be gone.", error);
    }
  }
}
