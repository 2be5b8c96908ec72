// Chat: a sidebar tab for talking with M²Chat. Each message is queued as an ordinary workflow; without this script,
// you would wire Load Session, Take Turn and Save Session yourself.

import { app } from "../../scripts/app.js";
import { Panel } from "./chat/panel.js";
import { loadTexts } from "./chat/texts.js";

/** @type {?Panel} One for the page: what is being typed stays when the tab is closed. */
let panel = null;

app.registerExtension({
  name: "M2Chat.Chat",
  async setup() {
    await loadTexts();
    const href = new URL("chat/chat.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
    app.extensionManager.registerSidebarTab({
      id: "m2chat",
      icon: "pi pi-comments",
      title: "M²Chat",
      tooltip: "Chat with M²Chat",
      type: "custom",
      render(element) {
        panel ??= new Panel();
        if (panel.element.parentElement === element) return;
        element.classList.add("m2chat-tab");
        element.replaceChildren(panel.element);
        panel.refresh();
      },
    });
  },
});
