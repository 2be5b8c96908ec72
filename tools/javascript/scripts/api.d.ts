/** What ComfyUI serves as scripts/api.js. */
export const api: any;
