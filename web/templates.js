// The pack's templates in the order in which they are to be read, the simplest first. ComfyUI lists them as the file system
// does; without this script they are all there, in any order.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { SOURCE } from "./source.js";

const ORDER = [
  "storybook",
  "gate",
  "dialogue",
  "book",
  "session",
  "gate_lab",
  "stock_sampler",
  "sdxl_story",
  "sdxl_consistent_story",
  "vlm_dialogue",
];

app.registerExtension({
  name: "M2Chat.Templates",
  init() {
    const all = api.getWorkflowTemplates;
    api.getWorkflowTemplates = async function (...given) {
      const templates = await all.apply(this, given);
      templates?.[SOURCE]?.sort((one, other) => ORDER.indexOf(one) - ORDER.indexOf(other));
      return templates;
    };
  },
});
