// The first page: where a ComfyUI says so in the setting M2Chat.Start, a browser that has no workflow open begins with that
// template of the pack. `python run.py comfyui` sets up such a ComfyUI; in any other the setting is empty, and this script
// does nothing.

import { app } from "../../scripts/app.js";
import { SOURCE } from "./source.js";

const SETTING = "M2Chat.Start";

/** Whether the page has a workflow of an earlier visit to come back to: more than the index of those, which is always there. */
function hasWorkflow() {
  const kept = (key) => /workflow/i.test(key) && !/index/i.test(key);
  try {
    return [localStorage, sessionStorage].some((store) => Object.keys(store).some(kept));
  } catch {
    return false; // a browser that keeps nothing has none either
  }
}

app.registerExtension({
  name: SETTING,
  settings: [{ id: SETTING, name: "Template that a new browser opens", type: "hidden", defaultValue: "" }],
  init() {
    const { setting } = app.extensionManager;
    const template = setting.get(SETTING);
    // Under any other name ComfyUI opens no template by its address.
    if (!template || !/^[\w.-]+$/.test(SOURCE ?? "") || location.search || location.hash) return;
    if (setting.get("Comfy.TutorialCompleted") && hasWorkflow()) return;
    // A new page: the present one has read its address already.
    location.replace(`?${new URLSearchParams({ template, source: SOURCE })}`);
    return new Promise(() => {}); // so that nothing else is opened until it has gone
  },
});
