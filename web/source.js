// The folder under which ComfyUI serves the pack, which is also the source of its templates.

/**
 * The folder of a script's pack.
 *
 * @param {string} address The script's, as the browser knows it.
 * @returns {string | undefined} Its name as the file system has it; undefined where the address is none of a pack's.
 */
export function sourceOf(address) {
  const folder = new URL(address).pathname.match(/extensions\/([^/]+)\//)?.[1];
  return folder && decodeURIComponent(folder);
}

export const SOURCE = sourceOf(import.meta.url);
