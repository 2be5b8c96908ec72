// The chat panel: one session, the actions on it, and the run that replies.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { again, said, say, shown } from "./again.js";
import { Book } from "./book.js";
import { Cast } from "./cast.js";
import { Composer } from "./composer.js";
import { takeDrops } from "./drop.js";
import { button, h, iconButton } from "./elements.js";
import { forCanvas, graphOf, newSeed, replyId } from "./graph.js";
import { Header } from "./header.js";
import * as kept from "./kept.js";
import { modelsOf } from "./models.js";
import { Run } from "./run.js";
import * as sessions from "./sessions.js";
import { t } from "./texts.js";
import { Transcript } from "./transcript.js";
import { open } from "./workflow.js";

const NEW = { name: "", revision: 0, turns: [], cast: [] };

/** A turn as it is read aloud. @param {sessions.Turn} turn */
const aloud = (turn) =>
  turn.segments.map((segment) => ("text" in segment ? segment.text : t("Picture: $.", segment.caption))).join("\n");

/** A turn that is yet to come from the reply number `number`. @param {number} number @returns {sessions.Turn} */
const coming = (number) => ({ role: "assistant", segments: [], node: replyId(number) });

/** The panel's content and its state. */
export class Panel {
  /** @type {sessions.Session} */
  #session = NEW;
  /** @type {sessions.Summary[]} */
  #list = [];
  /** @type {?Run} */
  #run = null;
  #busy = false;
  #last = null; // the workflow of the last message
  #thoughts = []; // the thoughts of the last run's replies, by turn
  #notes = []; // sentences about its last reply: what was left out of the conversation
  #stale = false; // whether reading the saved session failed, which is shown

  constructor() {
    this.settings = kept.read();
    this.#session = { ...NEW, name: this.settings.session };
    this.header = new Header({
      choose: (name) => this.#choose(name),
      rename: () => this.#rename(),
      remove: () => this.#remove(),
      open: () => this.#open(),
      write: (format) => this.#write(format),
    });
    this.transcript = new Transcript({
      retell: (turn, text) => this.#retell(turn, text),
      rewind: (turn) => this.#rewind(turn),
      rewrite: (turn, segment, text) =>
        this.#ask(async () => (this.#session = await sessions.edit(this.#session, { turn, segment, text }))),
      repaint: (turn, segment, caption) => this.#repaint(turn, segment, caption),
      reseen: (turn, segment, seen) =>
        this.#ask(async () => (this.#session = await sessions.edit(this.#session, { turn, segment, seen }))),
      choose: (version, turn, segment) =>
        this.#ask(async () => (this.#session = await sessions.choose(this.#session, { turn, segment, version }))),
      suggest: (premise) => {
        this.composer.text.value = premise;
        this.composer.text.focus();
      },
    });
    this.cast = new Cast((sheet) =>
      this.#ask(async () => (this.#session = await sessions.edit(this.#session, { sheet }))),
    );
    this.composer = new Composer(this.settings, {
      send: () => this.#send(),
      stop: () => this.#stop(),
      keep: () => this.#keep(),
      complain: (reason) => this.#fail(reason),
    });
    this.status = h("div", { className: "m2chat-status", role: "status" });
    this.spoken = h("div", { className: "m2chat-spoken", "aria-live": "polite" });
    this.error = h("div", { className: "m2chat-error", role: "alert", hidden: true });
    const { header, cast, transcript, composer } = this;
    const foot = h("div", { className: "m2chat-foot" }, this.error, this.status, this.spoken, composer.element);
    this.element = h("div", { className: "m2chat-panel" }, header.element, cast.element, transcript.element, foot);
    takeDrops(this.element, (files) => composer.attach(files));
    this.element.addEventListener("paste", (event) => composer.paste(event));
    this.element.addEventListener("copy", (event) => event.stopPropagation()); // the text, not the nodes
    // The session may also be saved by a workflow on the canvas, or by a run that an earlier page had queued.
    for (const name of ["execution_success", "reconnected"]) api.addEventListener(name, () => this.#busy || this.refresh());
    this.#show();
  }

  /** Show the saved session, if it has changed. */
  async refresh() {
    const shown = this.#session;
    try {
      const list = await sessions.list();
      const found = list.find(({ name, error }) => name === shown.name && !error);
      const now = found ? (found.revision === shown.revision ? shown : await sessions.load(found.name)) : NEW;
      if (this.#busy || this.#session !== shown) return; // something else was shown meanwhile
      if (this.#stale) this.#fail(null);
      this.#list = list;
      this.#session = now;
      if (now !== shown) this.#show();
      else this.#showHeader();
    } catch (error) {
      if (this.#busy) return;
      this.#fail(error.message, () => this.refresh());
      this.#stale = true;
    }
  }

  // Requests to the server

  /** @param {string} name */
  async #choose(name) {
    for (const { forms } of [this.transcript, this.cast]) forms.forget();
    this.#last = null;
    this.#thoughts = [];
    await this.#ask(async () => (this.#session = name ? await sessions.load(name) : NEW));
    this.transcript.toEnd();
    if (!name) this.composer.text.focus();
  }

  async #rename() {
    const { name } = this.#session;
    const message = t("What should this session be called?");
    const to = await app.extensionManager.dialog.prompt({ title: t("Rename the session"), message, defaultValue: name });
    if (to && to !== name) await this.#ask(async () => (this.#session = await sessions.rename(name, to)));
  }

  async #remove() {
    const { name } = this.#session;
    const message = t("Delete the session “$” with its pictures? This cannot be undone.", name);
    if (!(await app.extensionManager.dialog.confirm({ title: t("Delete the session"), message, type: "delete" }))) return;
    await this.#ask(async () => {
      await sessions.remove(name);
      this.#session = NEW;
    });
  }

  async #rewind(turn) {
    const message = t("Everything after this reply is dropped. This cannot be undone.");
    if (!(await app.extensionManager.dialog.confirm({ title: t("Rewind here"), message }))) return;
    await this.#ask(async () => (this.#session = await sessions.rewind(this.#session, turn)));
  }

  /** @param {() => Promise<*>} change Where it does not work, it is said why. */
  async #ask(change) {
    try {
      await change();
      this.#list = await sessions.list();
      this.#fail(null);
      for (const { forms } of [this.transcript, this.cast]) forms.settle(true);
    } catch (error) {
      this.#fail(error.message, error.conflict && (() => this.#reload()));
      for (const { forms } of [this.transcript, this.cast]) forms.settle(false);
    } finally {
      this.#keep();
      this.#show();
      this.#refocus();
    }
  }

  // Runs of a workflow

  async #send() {
    if (this.composer.isEmpty) return;
    if (this.composer.complaint) return this.#fail(this.composer.complaint);
    const draft = this.composer.take();
    /** @type {sessions.Picture[]} */
    const pictures = draft.pictures.map((blob) => ({ type: "picture", caption: "", seed: null, gate: null, blob }));
    /** @type {sessions.Turn} */
    const message = { role: "user", segments: [...pictures, { type: "text", text: draft.text }] };
    const worked = await this.#perform([...this.#session.turns, message, coming(1)], async () => [
      await say(message),
      { seed: newSeed() },
    ]);
    if (!worked) this.composer.giveBack(draft);
  }

  /** Redo the reply to a message, and those to all later messages; `text` replaces the message. */
  #retell(index, text) {
    const { turns } = this.#session;
    const message = turns[index];
    /** @type {(sessions.Text | sessions.Picture)[]} */
    const kept = text === undefined ? message.segments : [...shown(message), { type: "text", text }];
    const changed = { ...message, segments: kept };
    const later = turns.slice(index + 1).filter((turn) => turn.role === "user");
    const expected = [...turns.slice(0, index), changed, coming(1)];
    later.forEach((turn, number) => expected.push(turn, coming(number + 2)));
    return this.#perform(expected, async () => {
      // The old reply stays as a version, with everything that followed it.
      const first = text === undefined ? index + 1 : index;
      /** @type {import("./graph.js").Action[]} */
      const actions = first < turns.length ? [{ edit: "retell", turn: first + 1 }] : [];
      if (text !== undefined) actions.push(await say(changed));
      actions.push({ seed: newSeed() });
      for (const turn of later) actions.push(await say(turn), { seed: newSeed() });
      return actions;
    });
  }

  /** Repaint a picture with another seed, and with another caption if given. */
  #repaint(index, place, caption) {
    const { turns } = this.#session;
    const before = turns.slice(0, index).filter((turn) => turn.role === "assistant");
    const picture = before.flatMap(shown).length + shown({ segments: turns[index].segments.slice(0, place + 1) }).length;
    const expected = structuredClone(turns);
    Object.assign(expected[index].segments[place], { node: replyId(1) }, caption !== undefined && { caption });
    /** @type {import("./graph.js").Edit[]} */
    const edits = [{ edit: "repaint", picture }]; // first, so that the old version keeps its caption
    if (caption !== undefined) edits.push({ edit: "caption", picture, caption });
    const reply = { seed: newSeed(), last: index === turns.length - 1 };
    return this.#perform(expected, async () => [...edits, reply]);
  }

  /**
   * Queue a workflow, and show its progress and result.
   *
   * @param {import("./transcript.js").Turn[]} expected The turns as they are to become.
   * @param {() => Promise<import("./graph.js").Action[]>} actions
   * @returns {Promise<boolean>} Whether something was saved; else nothing has changed, and it is said why.
   */
  async #perform(expected, actions) {
    const ending = await this.#watch(expected, async () => this.#queue(await actions(), expected));
    const worked = ending.how === "done" || ending.kept;
    this.transcript.forms.settle(worked);
    if (ending.how === "failed") this.#fail(ending.reason, ending.conflict && (() => this.#reload()));
    else await this.#reload();
    const stopped = ending.kept ? t("Stopped. The reply so far is saved.") : t("Stopped. Nothing was saved.");
    this.status.textContent = { done: [t("Saved."), ...this.#notes].join(" "), stopped, failed: "" }[ending.how];
    this.#show();
    const told = worked && this.#session.turns.at(-1); // undefined if it was saved but cannot be read
    if (told) this.spoken.textContent = aloud(told);
    this.#refocus();
    return worked;
  }

  /** Show turns while something runs. @returns {Promise<import("./run.js").Ending>} */
  async #watch(expected, run) {
    this.#busy = true;
    this.#thoughts = [];
    this.#notes = [];
    this.#fail(null);
    this.status.textContent = t("Waiting for its turn…");
    this.#show(expected);
    this.transcript.toEnd();
    let ending;
    try {
      ending = await run();
    } catch (error) {
      ending = { how: "failed", reason: error.message };
    }
    this.#busy = false;
    this.#run = null;
    return ending;
  }

  /** @returns {Promise<import("./run.js").Ending>} */
  async #queue(actions, expected) {
    const { gate, steps, guidance, width, height, models } = this.settings;
    const { revision } = this.#session;
    let { name } = this.#session;
    if (!name) {
      this.#list = await sessions.list();
      name = sessions.nameFrom(said(expected[0]), this.#list);
    }
    const how = { gate, steps, guidance, width, height };
    const graph = graphOf({ models: await modelsOf(models), name, revision, actions, how, user: sessions.owner() });
    const thought = new Map(); // by node
    this.#run = new Run(graph, {
      text: (node, text) => {
        this.status.textContent = t("Writing…");
        this.transcript.text(node, text);
      },
      preview: (node, picture) => this.transcript.preview(node, picture),
      progress: (node, done, total) => {
        this.status.textContent = t("Painting…");
        this.transcript.progress(node, done, total);
      },
      thoughts: (node, text) => {
        this.status.textContent = t("Thinking…");
        this.transcript.thoughts(node, text);
      },
      away: () => this.#waiting(),
      result: (node, { thoughts, notes }) => {
        if (thoughts) thought.set(node, thoughts.join("\n\n"));
        if (notes) this.#notes = notes;
      },
    });
    const ending = await this.#kept(this.#run, await this.#run.follow(), { ...this.#session, name });
    this.#thoughts = expected.map(({ node }) => thought.get(node));
    if (ending.how === "done" || ending.kept) {
      this.#session = { ...this.#session, name };
      this.#last = graph;
    }
    return ending;
  }

  /** Save what a stopped run had told, and return its ending. @returns {Promise<import("./run.js").Ending>} */
  async #kept(run, ending, session) {
    if (ending.how !== "stopped" || !run.id) return ending;
    try {
      return { ...ending, kept: await sessions.saveStopped(session, run.id) };
    } catch (error) {
      return { how: "failed", reason: error.message, conflict: error.conflict };
    }
  }

  /** Wait until ComfyUI answers again, or the user presses Stop. */
  #waiting() {
    this.status.textContent = t("Waiting for ComfyUI to answer…");
  }

  async #stop() {
    this.status.textContent = t("Stopping…");
    await this.#run?.stop();
  }

  /** Open the last message on the canvas: as it was queued or, in a reopened session, as a workflow that repeats it. */
  async #open() {
    try {
      const { name } = this.#session;
      await open(forCanvas(this.#last ?? (await again(this.#session, this.settings)), name), name);
    } catch (error) {
      this.#fail(error.message);
    }
  }

  /** Write the session into ComfyUI's output folder, and link it. @param {string} format */
  async #write(format) {
    const { name, turns } = this.#session;
    const book = new Book();
    const ending = await this.#watch(turns, async () => {
      this.#run = new Run(await book.graph(name, format, sessions.owner()), {
        result: book.result,
        away: () => this.#waiting(),
      });
      return this.#run.follow();
    });
    this.#show();
    if (ending.how === "failed") this.#fail(ending.reason);
    const told = { done: book.told, stopped: [t("Stopped. Nothing was saved.")], failed: [] };
    this.status.replaceChildren(...told[ending.how]);
  }

  // Display

  /** Where what had the focus is gone, the box of the next message gets it: elsewhere, keys are ComfyUI's shortcuts. */
  #refocus() {
    if (document.activeElement === document.body) this.composer.text.focus({ preventScroll: true });
  }

  async #reload() {
    const { name } = this.#session;
    if (name) await this.#ask(async () => (this.#session = await sessions.load(name)));
  }

  #show(turns = this.#session.turns) {
    this.#showHeader();
    this.transcript.show(
      turns.map((turn, index) => ({ ...turn, thoughts: this.#thoughts[index] })),
      this.#busy,
    );
    this.cast.show(this.#session.cast ?? [], { saved: Boolean(this.#session.revision), busy: this.#busy });
    this.composer.busy = this.#busy;
  }

  #showHeader() {
    const opens = this.#session.turns.some((turn) => turn.role === "user");
    this.header.show(this.#list, this.#session.name, { busy: this.#busy, opens });
  }

  /** @param {?string} reason @param {?(() => void)} [load] Loads again, where that is the cure. */
  #fail(reason, load = null) {
    this.#stale = false;
    this.error.hidden = !reason;
    if (!reason) return this.error.replaceChildren();
    this.status.replaceChildren();
    const close = iconButton("pi-times", t("Dismiss"), () => this.#fail(null));
    const again = load && button(t("Load again"), load);
    this.error.replaceChildren(...[h("span", { dir: "auto" }, reason), close, again].filter(Boolean));
  }

  #keep() {
    kept.write({ ...this.settings, session: this.#session.name });
  }
}
