// One colour for each type of the pack's wires, on the classic canvas and in Nodes 2.0. ComfyUI's palettes only know the
// core's types and draw all others alike; a palette that does colour one of ours takes precedence.

import { app } from "../../scripts/app.js";

// Easy to tell from each other, and from the core's colours of MODEL, CLIP, VAE, CONDITIONING, LATENT and IMAGE.
const COLOURS = {
  M2CHAT_LANGUAGE_MODEL: "#e0b040",
  M2CHAT_VISION_ENCODER: "#5fc9b8",
  M2CHAT_ADAPTER: "#d96fb8",
  M2CHAT_DECODER: "#9b7be8",
  M2CHAT_CONVERSATION: "#8fd14f",
  M2CHAT_FEATURES: "#f2865e",
  M2CHAT_CONDITION: "#f0d78c",
  M2CHAT_MEMORY: "#6f9fd8",
  M2CHAT_IP_ADAPTER: "#c98a5a",
  M2CHAT_REFERENCES: "#7fb3a0",
  M2CHAT_DATASET: "#a8b4c4",
};

/** Add our colours to a table of colours by type. They stay when a palette clears the types that it does not know. */
function colour(table) {
  for (const [type, own] of Object.entries(COLOURS)) {
    let given = table[type] || own;
    Object.defineProperty(table, type, {
      configurable: true,
      enumerable: true,
      get: () => given,
      set: (value) => (given = value || own),
    });
  }
}

app.registerExtension({
  name: "M2Chat.Colours",
  setup() {
    const tables = [window.LGraphCanvas?.link_type_colors, app.canvas?.default_connection_color_byType];
    tables.filter(Boolean).forEach(colour);
    const rules = Object.entries(COLOURS).map(([type, own]) => `--color-datatype-${type}: ${own};`);
    // A palette sets its colours on the element itself, and these take precedence.
    document.head.append(Object.assign(document.createElement("style"), { textContent: `:root { ${rules.join(" ")} }` }));
  },
});
