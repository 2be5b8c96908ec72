// The last message of a reopened session, as a workflow that sends it again.

import { graphOf, newSeed } from "./graph.js";
import { modelsOf } from "./models.js";
import * as sessions from "./sessions.js";

/** The text of a turn. @param {sessions.Turn} turn */
export const said = (turn) => turn.segments.map((segment) => ("text" in segment ? segment.text : "")).join("");

/** The pictures of a turn. @param {Pick<sessions.Turn, "segments">} turn @returns {sessions.Picture[]} */
export const shown = (turn) => turn.segments.filter((segment) => segment.type === "picture");

/** What a message is for a workflow. @param {sessions.Turn} turn @returns {Promise<import("./graph.js").Say>} */
export async function say(turn) {
  const pictures = await Promise.all(shown(turn).map(async (each) => each.blob ?? (await sessions.bytes(each))));
  return { say: said(turn), pictures: await Promise.all(pictures.map(sessions.upload)) };
}

/**
 * The workflow: with the seed and the gate of the reply's first picture, if known.
 *
 * @param {sessions.Session} session
 * @param {import("./kept.js").Kept} settings
 * @returns {Promise<import("./graph.js").Graph>}
 */
export async function again({ name, revision, turns }, { gate, steps, guidance, width, height, models }) {
  const index = turns.findLastIndex((turn) => turn.role === "user");
  const counts = ({ seed }) => seed !== null && Number.isSafeInteger(Number(seed));
  const painted = turns.slice(index + 1).flatMap(shown).find(counts);
  const how = { gate: painted?.gate ?? gate, steps, guidance, width, height };
  const reply = { seed: painted ? Number(painted.seed) : newSeed() };
  /** @type {import("./graph.js").Action[]} */
  const actions = [{ edit: "retell", turn: index + 1 }, await say(turns[index]), reply];
  return graphOf({ models: await modelsOf(models), name, revision, actions, how, user: sessions.owner() });
}
