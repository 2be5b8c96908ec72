// Lists the pack's templates in reading order, the simplest first. ComfyUI lists them in the file system's order, which is
// what you see without this script.

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
  "train_adapter",
  "any_painter_story",
  "sdxl_story",
  "sdxl_lora_story",
  "sdxl_consistent_story",
  "flux2_klein_story",
  "qwen_edit_story",
  "edit_dialogue",
  "reference_gate",
  "zimage_story",
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
