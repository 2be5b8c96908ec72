// Requests to ComfyUI over HTTP, and its errors in one sentence.

import { api } from "../../../scripts/api.js";
import { t } from "./texts.js";

const MOST = 300; // characters quoted from an answer that is not the pack's

/** An error of a request, in a sentence. */
export class Refused extends Error {
  /** @param {string} message @param {number} [status] */
  constructor(message, status = 0) {
    super(message);
    /** Whether someone else has changed the session meanwhile. */
    this.conflict = status === 409;
  }
}

/** The sentence for a server that does not answer. */
const away = () => t("ComfyUI does not answer: restart it, then try again.");

/** An answer of ComfyUI, whatever it is. @param {string} path @param {RequestInit} [request] */
async function reach(path, request) {
  try {
    return await api.fetchApi(path, request);
  } catch {
    throw new Refused(away());
  }
}

/** The sentence of an answer that is none of what was asked for. @param {Response} answer @param {string} path */
const failed = ({ status }, path) => t("ComfyUI answered $ to $.", status, path);

/**
 * Return the answer of a route.
 *
 * @param {string} path
 * @param {RequestInit} [request]
 * @returns {Promise<*>}
 */
export async function ask(path, request) {
  const answer = await reach(path, { cache: "no-store", ...request });
  const text = await answer.text().catch(() => "");
  let given;
  try {
    given = text ? JSON.parse(text) : {};
  } catch {
    given = null; // perhaps a proxy's error page
  }
  if (!answer.ok) throw new Refused(typeof given?.error === "string" ? given.error : failed(answer, path), answer.status);
  if (given === null) throw new Refused(t("The response to $ cannot be read: restart ComfyUI, then try again.", path));
  return given;
}

/** The bytes that a route gives. @param {string} path */
export async function bytes(path) {
  const answer = await reach(path);
  if (!answer.ok) throw new Refused(failed(answer, path), answer.status);
  return answer.blob().catch(() => {
    throw new Refused(away()); // the connection was lost
  });
}

/** One line of what somebody said. @param {string} text */
const line = (text) => {
  const [first] = text.trim().split("\n");
  return first.length > MOST ? `${first.slice(0, MOST)}…` : first;
};

/** What ComfyUI said to a workflow that it did not queue, as one sentence. @param {*} error As `api.queuePrompt` throws it. */
export function refusal(error) {
  const { error: whole, node_errors: byNode } = error.response ?? {};
  const first = Object.values(byNode ?? {})[0]?.errors?.[0] ?? whole;
  if (!first) return away();
  if (typeof first === "string") return line(first);
  if (first.type === "server_error") return t("ComfyUI answered $ to $.", first.message, "/prompt"); // the rest is a web page
  const own = first.details?.indexOf(" - ") ?? -1; // a node's own sentence follows the input's name
  if (first.type === "custom_validation_failed" && own >= 0) return first.details.slice(own + 3);
  return [first.message, first.details].filter(Boolean).map(line).join(": ");
}
