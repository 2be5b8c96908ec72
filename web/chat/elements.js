// Making elements of a page. Whatever text comes in stays text: nothing here parses HTML.

/**
 * An element with properties, listeners ("onclick") and attributes (those with a dash, and role), and its children.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Object<string, *>} [properties]
 * @param {...(Node | string | null | undefined | false)} children Strings become text; what is missing is left out.
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child || child === ""));
  return made;
}

/**
 * A button with a word on it.
 *
 * @param {string} label
 * @param {() => void} onclick
 * @param {Object<string, *>} [properties]
 */
export function button(label, onclick, properties = {}) {
  return h("button", { type: "button", className: "m2chat-button", onclick, ...properties }, label);
}

/**
 * A button with one of ComfyUI's icons; its label is read aloud, and shown when pointed at.
 *
 * @param {string} icon
 * @param {string} label
 * @param {() => void} onclick
 */
export function iconButton(icon, label, onclick) {
  const picture = h("i", { className: `pi ${icon}`, "aria-hidden": "true" });
  return h(
    "button",
    { type: "button", className: "m2chat-icon", title: label, "aria-label": label, onclick },
    picture,
  );
}

/**
 * A text that others wrote, a model or a user: in its own direction, with its own line ends.
 *
 * @param {string} text
 * @param {string} [className]
 */
export function words(text, className = "m2chat-words") {
  return h("div", { className, dir: "auto", textContent: text });
}

/** Whether a key sends what was typed: Enter, but neither with Shift nor while letters are being composed. */
export const isSend = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;
