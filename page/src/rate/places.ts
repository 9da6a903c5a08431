/** Which replies are where, the best first; those in one place are equal. */
export type Places = readonly (readonly string[])[];

// With one reply taken out, the others stand in places of their own. It may come before each of these, into
// each of these, or behind the last one: 0 is before the first, 1 in it, 2 behind it, 3 in the second, and so on.

/** Where a reply stands among the others. */
export function position(places: Places, id: string): number {
  const at = places.findIndex((one) => one.includes(id));
  return 2 * at + ((places[at]?.length ?? 0) > 1 ? 1 : 0);
}

export const without = (places: Places, id: string): string[][] =>
  places.map((one) => one.filter((other) => other !== id)).filter((one) => one.length);

/** The places after a reply was put at a position; the nearest that there is. */
export function moved(places: Places, id: string, at: number): string[][] {
  const others = without(places, id);
  const to = Math.min(Math.max(at, 0), 2 * others.length);
  const place = Math.floor(to / 2);
  if (to % 2) return others.map((one, number) => (number === place ? [...one, id] : one));
  return [...others.slice(0, place), [id], ...others.slice(place)];
}

/** The number of a reply's place, 1 the best; after two that share the first comes the third. */
export function place(places: Places, id: string): number {
  const at = places.findIndex((one) => one.includes(id));
  return 1 + places.slice(0, at).flat().length;
}

/** Those in the same place. */
export const tied = (places: Places, id: string): string[] =>
  places.find((one) => one.includes(id))?.filter((other) => other !== id) ?? [];
