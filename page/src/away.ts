import { Shared } from "./shared";

/** Whether the server is away; `back` tells each time that it is there again. */
export const away = new Shared(false);
export const back = new Shared(0);

const FIRST = 1000; // milliseconds until it is tried again; more after each time, up to LAST
const LAST = 8000;
const THROUGH = [502, 503, 504]; // said by what stands before the server

/** It did not answer: try this address until it does. */
export async function lost(address: string): Promise<void> {
  if (away.value) return;
  away.value = true;
  for (let pause = FIRST; away.value; pause = Math.min(LAST, pause * 1.5)) {
    await new Promise((go) => setTimeout(go, pause));
    if (await answers(address)) found();
  }
}

/** Try at once. */
export async function tried(address: string): Promise<void> {
  if (await answers(address)) found();
}

function found(): void {
  if (!away.value) return;
  away.value = false;
  back.value += 1;
}

async function answers(address: string): Promise<boolean> {
  try {
    return !THROUGH.includes((await fetch(address)).status);
  } catch {
    return false;
  }
}
