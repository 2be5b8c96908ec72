// A task for a session as an ordinary workflow: load it, change it, let the assistant reply, save it.

/**
 * @typedef {[string, number]} Link
 * @typedef {{class_type: string, inputs: Object<string, *>}} ApiNode
 * @typedef {Object<string, ApiNode>} Graph
 * @typedef {{say: string, pictures: string[]}} Say A message; its pictures as Load Image calls them.
 * @typedef {{edit: "retell" | "caption" | "repaint", turn?: number, picture?: number, caption?: string}} Edit What Edit Conversation takes: turns, and pictures of the assistant, are counted from 1.
 * @typedef {{seed: number, last?: boolean}} Reply A reply, or the pictures that are still open, in the `last` turn or not.
 * @typedef {Say | Edit | Reply} Action
 * @typedef {{gate: number, steps: number, guidance: number, width: number, height: number}} How As Take Turn takes it.
 * @typedef {{models: import("./models.js").Models, name: string, revision: number, actions: Action[], how: How,
 *   user?: string}} Task `user` is the owner of the session if ComfyUI has several users.
 */

/** The id of the node with a task's reply number `number`, from 1. It is a word; the ids on a canvas are numbers. */
export const replyId = (number) => `m2chat_reply_${number}`;

/** @returns {number} A seed that JavaScript can count. */
export const newSeed = () => Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);

/**
 * The workflow of a task, in ComfyUI's API format.
 *
 * @param {Task} task
 * @returns {Graph}
 */
export function graphOf({ models, name, revision, actions, how, user = "" }) {
  const whose = user ? { user } : {};
  /** @type {Graph} */
  const graph = {
    ...models.nodes,
    m2chat_session: { class_type: "M2Chat_LoadSession", inputs: { name: revision ? name : "", ...whose } },
  };
  /** @type {Link} */
  let conversation = ["m2chat_session", 0];
  let replies = 0;
  const add = (id, class_type, inputs) => {
    graph[id] = { class_type, inputs: { ...inputs, conversation } };
    conversation = [id, 0];
  };
  actions.forEach((action, index) => {
    if ("say" in action) {
      const shown = {};
      action.pictures.forEach((image, number) => {
        const id = `m2chat_picture_${index}_${number}`;
        graph[id] = { class_type: "LoadImage", inputs: { image } };
        shown[`pictures.picture_${number}`] = [id, 0];
      });
      add(`m2chat_message_${index}`, "M2Chat_UserMessage", { text: action.say, ...shown });
    } else if ("edit" in action) {
      const { edit, ...of } = action;
      const inputs = Object.fromEntries(Object.entries(of).map(([key, value]) => [`edit.${key}`, value]));
      add(`m2chat_edit_${index}`, "M2Chat_EditConversation", { edit, ...inputs });
    } else {
      const id = replyId(++replies);
      add(id, "M2Chat_Turn", { ...models.links, text: "", ...how, seed: action.seed });
      // ComfyUI only lists a job's pictures if a node shows them.
      if (action.last !== false) graph[`m2chat_shown_${replies}`] = { class_type: "PreviewImage", inputs: { images: [id, 1] } };
    }
  });
  add("m2chat_save", "M2Chat_SaveSession", { name, revision, ...whose });
  return graph;
}

/**
 * The same for the canvas: its nodes have numbers, can run repeatedly, and show the result.
 *
 * @param {Graph} graph What `graphOf` made.
 * @param {string} [saved] The name of the session that the graph has begun: it goes on there.
 * @returns {Graph}
 */
export function forCanvas(graph, saved = "") {
  const { m2chat_save: save, ...others } = graph;
  const session = others.m2chat_session;
  const whole = {
    ...others,
    ...(session && saved && { m2chat_session: { ...session, inputs: { ...session.inputs, name: saved } } }),
    ...(save && {
      m2chat_save: { ...save, inputs: { ...save.inputs, revision: ["m2chat_session", 1] } },
      m2chat_show: { class_type: "M2Chat_ShowConversation", inputs: { conversation: ["m2chat_save", 0] } },
    }),
  };
  const numbers = Object.fromEntries(Object.keys(whole).map((id, index) => [id, String(index + 1)]));
  const renamed = (value) => (Array.isArray(value) && value[0] in numbers ? [numbers[value[0]], value[1]] : value);
  return Object.fromEntries(
    Object.entries(whole).map(([id, { inputs, ...node }]) => [
      numbers[id],
      { ...node, inputs: Object.fromEntries(Object.entries(inputs).map(([key, value]) => [key, renamed(value)])) },
    ]),
  );
}
