// The saved sessions, through the pack's routes, and uploads of pictures.

import { api } from "../../../scripts/api.js";
import * as server from "./server.js";
import { t } from "./texts.js";

const ROOT = "/m2chat/sessions";
const MOST = 40; // characters of a name made from a message
const DANGLING = /( (a|an|the|my|and|or|who|that|is|in|on|at|of|with|by|to|for|from|into))+$/i;

/**
 * @typedef {{type: "text", text: string}} Text
 * @typedef {{place: number, count: number}} Versions Where there are several; `place` from 0 is the one that is shown.
 * @typedef {{type: "picture", caption: string, seed: ?string, gate: ?number, file?: ?string, url?: ?string,
 *   blob?: Blob, node?: string, seen?: string, versions?: Versions}} Picture `blob` is one
 *   that is yet to be uploaded; `node` is painting it; `seen` is what somebody saw in it.
 * @typedef {{name: string, looks: string}} Character
 * @typedef {{role: "system" | "user" | "assistant", segments: (Text | Picture)[], node?: string, versions?: Versions}} Turn
 *   `node` is writing it.
 * @typedef {{name: string, revision: number, turns: Turn[], cast: Character[]}} Session A new one has revision 0.
 * @typedef {{name: string, revision: number, turns: number, pictures: number, error: string}} Summary
 */

/** @param {string} name */
const one = (name) => `${ROOT}/${encodeURIComponent(name)}`;

/** @param {string} path @param {object} body */
const post = (path, body) =>
  server.ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

let user = ""; // the current user if ComfyUI runs with --multi-user

/** The owner of the sessions, for the nodes; empty if ComfyUI has one user. */
export const owner = () => user;

/** @returns {Promise<Summary[]>} The latest first. */
export async function list() {
  const listed = await server.ask(ROOT);
  user = listed.user ?? "";
  return listed.sessions;
}

/** @param {string} name @returns {Promise<Session>} */
export const load = (name) => server.ask(one(name));

/** @param {string} name */
export const remove = (name) => server.ask(one(name), { method: "DELETE" });

/** Later turns go. @param {Session} session @param {number} turn From 0. @returns {Promise<Session>} */
export const rewind = ({ name, revision }, turn) => post(`${one(name)}/rewind`, { revision, turn });

/**
 * Other words in place of one text, of what was seen in a picture, or of the character sheet.
 *
 * @param {Session} session
 * @param {{turn: number, segment: number, text?: string, seen?: string} | {sheet: string}} to
 */
export const edit = ({ name, revision }, to) => post(`${one(name)}/edit`, { revision, ...to });

/** Another version. @param {Session} session @param {{turn: number, segment?: number, version: number}} which */
export const choose = ({ name, revision }, which) => post(`${one(name)}/version`, { revision, ...which });

/**
 * Save what a run told before it was stopped.
 *
 * @param {Session} session @param {string} prompt
 * @returns {Promise<boolean>} Whether it had told anything.
 */
export const saveStopped = async ({ name, revision }, prompt) =>
  "turns" in (await post(`${one(name)}/stopped`, { revision, prompt }));

/** @param {string} name @param {string} to @returns {Promise<Session>} */
export async function rename(name, to) {
  const renamed = await post(`${one(name)}/branch`, { to });
  await remove(name);
  return renamed;
}

/**
 * Show a session's picture; fails if it cannot be loaded. With several users, the request names the user, which an image
 * element cannot do.
 *
 * @param {HTMLImageElement} image
 * @param {Picture} picture
 * @param {string[]} addresses Gets the address of what was fetched, which is to be revoked.
 */
export async function show(image, picture, addresses) {
  let address = api.apiURL(picture.url);
  if (user) addresses.push((address = URL.createObjectURL(await bytes(picture))));
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new server.Refused(t("This picture cannot be loaded.")));
    image.src = address;
  });
}

/** The bytes of a session's picture. @param {Picture} picture @returns {Promise<Blob>} */
export const bytes = ({ url }) => server.bytes(url);

/**
 * Put a picture into ComfyUI's input folder.
 *
 * @param {Blob & {name?: string}} picture
 * @returns {Promise<string>} What Load Image calls it.
 */
export async function upload(picture) {
  const body = new FormData();
  body.append("image", picture, picture.name ?? "picture.png");
  body.append("subfolder", "m2chat");
  const { name, subfolder } = await server.ask("/upload/image", { method: "POST", body });
  return subfolder ? `${subfolder}/${name}` : name;
}

/**
 * A name for a new session, made from its first message: valid for a folder, and not yet taken.
 *
 * @param {string} message
 * @param {Summary[]} others
 */
export function nameFrom(message, others) {
  const plain = message.normalize("NFC").replace(/[^\p{L}\p{M}\p{N} ,'’!-]+/gu, " ");
  let name = "";
  for (const word of plain.split(/\s+/)) {
    if (name.length + word.length >= MOST) {
      name = name.replace(DANGLING, ""); // cut where a phrase ends
      break;
    }
    name = `${name} ${word}`.trim();
  }
  if (!/[\p{L}\p{N}]{2}.*/u.test(name) || /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(name)) name = t("New chat");
  const taken = new Set(others.map((other) => other.name.normalize("NFC").toLowerCase()));
  let free = name;
  for (let number = 2; taken.has(free.toLowerCase()); number++) free = `${name} ${number}`;
  return free;
}
