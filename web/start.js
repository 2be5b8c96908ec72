// The first page: a browser that has no workflow open begins with the template of the pack that the setting M2Chat.Start
// names. `python run.py comfyui` sets up such a ComfyUI; in any other the setting is empty, and this script does nothing.

import { app } from "../../scripts/app.js";
import { SOURCE } from "./source.js";

const SETTING = "M2Chat.Start";

/** Whether the page has a workflow of an earlier visit to restore; the index alone, which is always there, does not count. */
function hasWorkflow() {
  const kept = (key) => /workflow/i.test(key) && !/index/i.test(key);
  try {
    return [localStorage, sessionStorage].some((store) => Object.keys(store).some(kept));
  } catch {
    return false; // without storage there is none
  }
}

app.registerExtension({
  name: SETTING,
  settings: [{ id: SETTING, name: "Template that a new browser opens", type: "hidden", defaultValue: "" }],
  init() {
    const { setting } = app.extensionManager;
    const template = setting.get(SETTING);
    // ComfyUI opens a template by its address only if the folder's name is of this form.
    if (!template || !/^[\w.-]+$/.test(SOURCE ?? "") || location.search || location.hash) return;
    if (setting.get("Comfy.TutorialCompleted") && hasWorkflow()) return;
    // A new page: the present one has read its address already.
    location.replace(`?${new URLSearchParams({ template, source: SOURCE })}`);
    return new Promise(() => {}); // so that nothing else is opened before the page is left
  },
});
