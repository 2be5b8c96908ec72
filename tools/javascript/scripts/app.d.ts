/** What ComfyUI serves as scripts/app.js; of it, the pack's scripts use more than its own types promise. */
export const app: any;
declare global {
  const LiteGraph: any;
  interface Window {
    app: any;
    LiteGraph: any;
    LGraphCanvas: any;
  }
}
