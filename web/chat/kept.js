// What the panel keeps in the browser: settings, and which session was shown. The panel opens whatever is stored there.

const KEY = "M2Chat.Chat";

// The limits of the nodes.
export const MAX_GATE = 4;
const SIDE = 8192; // pixels

const number = (least, most) => (value) => typeof value === "number" && value >= least && value <= most;

const side = (value) => number(0, SIDE)(value) && value % 8 === 0;

/**
 * The stored settings: the default of each, and the check of a value.
 *
 * @type {Object<string, [*, (value: *) => boolean]>}
 */
const KEPT = {
  gate: [1, number(0, MAX_GATE)],
  steps: [20, (value) => Number.isInteger(value) && number(1, 1000)(value)],
  guidance: [2, number(0, 30)],
  width: [0, side], // 0 is the decoder's own
  height: [0, side],
  models: ["starter", (value) => ["starter", "canvas"].includes(value)],
  session: ["", (value) => typeof value === "string"],
};

/**
 * @typedef {{gate: number, steps: number, guidance: number, width: number, height: number,
 *   models: "starter" | "canvas", session: string}} Kept
 */

/** @returns {Kept} What is not there, cannot be read or makes no sense is as in a new browser. */
export function read() {
  let stored = null;
  try {
    stored = JSON.parse(localStorage.getItem(KEY) ?? "null");
  } catch (error) {
    console.warn("M2Chat: the chat's settings cannot be read, and are as in a new browser.", error);
  }
  const entries = Object.entries(KEPT).map(([name, [otherwise, fits]]) => {
    const value = stored?.[name];
    return [name, fits(value) ? value : otherwise];
  });
  return Object.fromEntries(entries);
}

/** @param {Kept} kept Where the browser keeps nothing, they hold until the page is closed. */
export function write(kept) {
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(Object.keys(KEPT).map((name) => [name, kept[name]]))));
  } catch (error) {
    console.warn("M2Chat: this browser does not keep the chat's settings.", error);
  }
}
