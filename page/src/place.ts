import { Shared } from "./shared";

/** Where the hash leads: #/chat/ID is ["chat", "ID"]. */
export const place = new Shared<string[]>(parts());

function parts(): string[] {
  return window.location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
}

export const link = (...to: string[]): string => `#/${to.map(encodeURIComponent).join("/")}`;

/** Go there. replace: without a step back to where one was. */
export function go(to: string[], { replace = false } = {}): void {
  if (link(...to) === window.location.hash) return;
  if (replace) history.replaceState(null, "", link(...to));
  else history.pushState(null, "", link(...to));
  place.value = parts();
}

window.addEventListener("hashchange", () => void (place.value = parts()));
window.addEventListener("popstate", () => void (place.value = parts()));
