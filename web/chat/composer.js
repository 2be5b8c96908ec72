// The form for the next message: text, pictures, the gate, and the other settings.

import { button, h, iconButton, isSend } from "./elements.js";
import { MAX_GATE } from "./kept.js";
import { t } from "./texts.js";

const MOST = 8; // pictures that User Message takes
// In pixels; an empty one is 0.
const SIDE = { min: 0, max: 8192, step: 8, otherwise: () => t("decoder default") };

/**
 * @typedef {{text: string, pictures: Blob[]}} Draft
 * @typedef {{gate: number, steps: number, guidance: number, width: number, height: number,
 *   models: "starter" | "canvas"}} Settings
 */

/** @param {File} file */
const isPicture = (file) => file.type.startsWith("image/");

/** The foot of the panel. */
export class Composer {
  #pictures = [];
  #settings;
  #keep;
  #send;
  #complain;
  #tray = h("ul", { className: "m2chat-tray", "aria-label": t("Pictures of the message") });

  /**
   * @param {Settings} settings
   * @param {{send: () => void, stop: () => void, keep: (settings: Settings) => void,
   *   complain: (reason: ?string) => void}} on
   */
  constructor(settings, { send, stop, keep, complain }) {
    this.#settings = settings;
    this.#complain = complain;
    this.#keep = keep;
    this.#send = send;
    this.text = h("textarea", {
      className: "m2chat-input",
      rows: 3,
      dir: "auto",
      placeholder: t("What happens next?"),
      "aria-label": t("Your message. Enter sends it; Shift+Enter starts a new line."),
    });
    const file = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, tabIndex: -1 });
    file.onchange = () => {
      this.attach([...file.files]);
      file.value = "";
    };
    this.sendButton = button(t("Send"), send, { className: "m2chat-button m2chat-primary" });
    this.stopButton = button(t("Stop"), stop, { className: "m2chat-button m2chat-stop", hidden: true });
    const attach = iconButton("pi-image", t("Attach pictures, or paste or drop them"), () => file.click());
    const row = h(
      "div",
      { className: "m2chat-row" },
      file,
      attach,
      this.#gate(),
      this.stopButton,
      this.sendButton,
    );
    this.element = h("footer", { className: "m2chat-composer" }, this.#tray, this.text, row, this.#more());
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @returns {Draft} What was typed, which is taken out. */
  take() {
    const draft = { text: this.text.value, pictures: this.#pictures };
    this.text.value = "";
    this.#show([]);
    return draft;
  }

  /** Puts something back in front of what has been typed since. @param {Draft} draft */
  giveBack({ text, pictures }) {
    this.text.value = [text, this.text.value].filter(Boolean).join("\n");
    this.#show([...pictures, ...this.#pictures]);
  }

  /** Why the message cannot be sent as it is. */
  get complaint() {
    const more = this.#pictures.length - MOST;
    return more > 0 ? t("A message can have at most $ pictures: remove $ of them.", MOST, more) : null;
  }

  get isEmpty() {
    return !this.text.value.trim() && !this.#pictures.length;
  }

  /** @param {boolean} busy Whether a run goes on; one can type all the same. */
  set busy(busy) {
    this.sendButton.disabled = busy;
    this.stopButton.hidden = !busy;
    this.sendButton.hidden = busy;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.target !== this.text || !isSend(event)) return;
    event.preventDefault();
    event.stopPropagation(); // Ctrl+Enter would run the workflow on the canvas
    if (!this.sendButton.disabled) this.#send();
  }

  /** Pictures that are pasted are the message's; on the rest of the page they would become nodes. @param {ClipboardEvent} event */
  paste(event) {
    const pictures = [...(event.clipboardData?.files ?? [])].filter(isPicture);
    if (!pictures.length) return;
    event.preventDefault();
    event.stopPropagation();
    this.attach(pictures);
  }

  /** Add pictures to the message, and say of which files that does not work. @param {File[]} files */
  attach(files) {
    const other = files.find((file) => !isPicture(file));
    const all = [...this.#pictures, ...files.filter(isPicture)];
    if (other) this.#complain(t("$ is not a picture: attach image files.", other.name));
    else if (!files.length) this.#complain(t("There was no picture in it: attach image files."));
    else if (all.length > MOST) this.#complain(t("A message can have at most $ pictures: $ were left out.", MOST, all.length - MOST));
    else this.#complain(null);
    this.#show(all.slice(0, MOST));
    this.text.focus();
  }

  #show(pictures) {
    this.#pictures = pictures;
    this.#tray.querySelectorAll("img").forEach((image) => URL.revokeObjectURL(image.src));
    const items = pictures.map((picture) => {
      const remove = () => {
        this.#show(this.#pictures.filter((other) => other !== picture));
        this.text.focus();
      };
      const image = h("img", { src: URL.createObjectURL(picture), alt: picture.name ?? t("Picture") });
      return h("li", {}, image, iconButton("pi-times", t("Remove this picture"), remove));
    });
    this.#tray.replaceChildren(...items);
  }

  #gate() {
    const value = h("span", { "aria-hidden": "true" }, this.#settings.gate.toFixed(2));
    const slider = h("input", { type: "range", min: 0, max: MAX_GATE, step: 0.05, value: this.#settings.gate });
    slider.oninput = () => {
      value.textContent = Number(slider.value).toFixed(2);
      this.#set({ gate: Number(slider.value) });
    };
    const title = t("Creativity against consistency: 0 paints the words alone, 1 is as trained, and up to 4 keeps closer to earlier pictures.");
    return h("label", { className: "m2chat-gate", title }, t("Gate"), slider, value);
  }

  #more() {
    const source = h(
      "select",
      { className: "m2chat-input" },
      h("option", { value: "starter" }, t("The starter")),
      h("option", { value: "canvas" }, t("From the workflow on the canvas")),
    );
    source.value = this.#settings.models;
    source.onchange = () => this.#set({ models: source.value });
    return h(
      "details",
      { className: "m2chat-more" },
      h("summary", {}, t("Models and painting")),
      h("label", {}, t("Models"), source),
      this.#number(t("Steps"), "steps", { min: 1, max: 1000, step: 1 }),
      this.#number(t("Guidance"), "guidance", { min: 0, max: 30, step: 0.1 }),
      this.#number(t("Width"), "width", SIDE),
      this.#number(t("Height"), "height", SIDE),
    );
  }

  #number(label, name, bounds) {
    const { otherwise, ...limits } = bounds;
    const shown = () => (otherwise && !this.#settings[name] ? "" : this.#settings[name]);
    const field = h("input", { className: "m2chat-input", type: "number", placeholder: otherwise?.() ?? "", ...limits });
    field.value = shown();
    field.onchange = () => {
      const fits = field.checkValidity() && (field.value || (otherwise && !field.validity.badInput));
      if (fits) this.#set({ [name]: Number(field.value) });
      const { min, max, step } = limits;
      this.#complain(fits ? null : t("$ must be a number from $ to $, in steps of $.", label, min, max, step));
      field.value = shown();
    };
    return h("label", {}, label, field);
  }

  #set(changed) {
    Object.assign(this.#settings, changed);
    this.#keep(this.#settings);
  }
}
