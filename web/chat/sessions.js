// The saved sessions: what the pack's routes give and take, and pictures on their way into ComfyUI.

import { api } from "../../../scripts/api.js";
import { t } from "./texts.js";

const ROOT = "/m2chat/sessions";
const MOST = 40; // characters of a name that is made from a message

/**
 * @typedef {{type: "text", text: string}} Text
 * @typedef {{place: number, count: number}} Versions Where there are several; `place` from 0 is the one that is shown.
 * @typedef {{type: "picture", caption: string, seed: ?string, gate: ?number, file: ?string, url: ?string,
 *   versions?: Versions}} Picture
 * @typedef {{role: "system" | "user" | "assistant", segments: (Text | Picture)[], versions?: Versions}} Turn
 * @typedef {{name: string, revision: number, turns: Turn[]}} Session A new one has revision 0.
 * @typedef {{name: string, revision: number, turns: number, pictures: number, error: string}} Summary
 */

/** What a route refused, in the server's sentence. */
export class Refused extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    /** Whether somebody else has changed the session meanwhile. */
    this.conflict = status === 409;
  }
}

/** @param {string} path @param {RequestInit} [request] */
async function ask(path, request) {
  let answer;
  try {
    answer = await api.fetchApi(path, { cache: "no-store", ...request });
  } catch {
    throw new Refused(t("ComfyUI does not answer: start it again, then repeat this."), 0);
  }
  const given = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(given.error ?? t("ComfyUI answers $ to $.", answer.status, path), answer.status);
  return given;
}

/** @param {string} name */
const one = (name) => `${ROOT}/${encodeURIComponent(name)}`;

/** @param {string} path @param {object} body */
const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

let user = ""; // who asks, where ComfyUI runs with --multi-user

/** Whose sessions they are, for the nodes; empty where ComfyUI has one user. */
export const owner = () => user;

/** @returns {Promise<Summary[]>} The latest first. */
export async function list() {
  const listed = await ask(ROOT);
  user = listed.user ?? "";
  return listed.sessions;
}

/** @param {string} name @returns {Promise<Session>} */
export const load = (name) => ask(one(name));

/** @param {string} name */
export const remove = (name) => ask(one(name), { method: "DELETE" });

/** Later turns go. @param {Session} session @param {number} turn From 0. @returns {Promise<Session>} */
export const rewind = ({ name, revision }, turn) => post(`${one(name)}/rewind`, { revision, turn });

/** Other words in place of one text. @param {Session} session @param {{turn: number, segment: number, text: string}} to */
export const edit = ({ name, revision }, to) => post(`${one(name)}/edit`, { revision, ...to });

/** Another version. @param {Session} session @param {{turn: number, segment?: number, version: number}} which */
export const choose = ({ name, revision }, which) => post(`${one(name)}/version`, { revision, ...which });

/** @param {string} name @param {string} to @returns {Promise<Session>} */
export async function rename(name, to) {
  const renamed = await post(`${one(name)}/branch`, { to });
  await remove(name);
  return renamed;
}

/**
 * Show a session's picture. Of several users' pictures ComfyUI is asked in the name of one, as no image element does.
 *
 * @param {HTMLImageElement} image
 * @param {Picture} picture
 * @param {string[]} addresses Gets the address of what was fetched, which is to be revoked.
 */
export async function show(image, picture, addresses) {
  if (!user) {
    image.src = api.apiURL(picture.url);
    return;
  }
  const address = URL.createObjectURL(await bytes(picture));
  addresses.push(address);
  image.src = address;
}

/** The bytes of a session's picture. @param {Picture} picture */
export async function bytes(picture) {
  const answer = await api.fetchApi(picture.url);
  if (!answer.ok) throw new Refused(t("ComfyUI answers $ to $.", answer.status, picture.url), answer.status);
  return answer.blob();
}

/**
 * Put a picture into ComfyUI's input folder.
 *
 * @param {Blob} picture
 * @returns {Promise<string>} What Load Image calls it.
 */
export async function upload(picture) {
  const body = new FormData();
  body.append("image", picture, picture.name ?? "picture.png");
  body.append("subfolder", "m2chat");
  const { name, subfolder } = await ask("/upload/image", { method: "POST", body });
  return subfolder ? `${subfolder}/${name}` : name;
}

/**
 * A name for a new session, from its first message: one that a folder can have, and that none has yet.
 *
 * @param {string} message
 * @param {Summary[]} others
 */
export function nameFrom(message, others) {
  const plain = message.normalize("NFC").replace(/[^\p{L}\p{M}\p{N} ,'’!-]+/gu, " ");
  let name = "";
  for (const word of plain.split(/\s+/)) {
    if (name.length + word.length < MOST) name = `${name} ${word}`.trim();
    else break;
  }
  if (!/[\p{L}\p{N}]{2}.*/u.test(name) || /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(name)) name = t("New chat");
  const taken = new Set(others.map((other) => other.name.normalize("NFC").toLowerCase()));
  let free = name;
  for (let number = 2; taken.has(free.toLowerCase()); number++) free = `${name} ${number}`;
  return free;
}
