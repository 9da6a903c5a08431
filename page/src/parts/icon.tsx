const PATHS = {
  chat: "M4 5h16v11H11l-5 4v-4H4z",
  pair: "M4 5h7v14H4zM13 5h7v14h-7z",
  rank: "M5 6h14M5 12h9M5 18h5",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  above: "m6 14 6-6 6 6",
  below: "m6 10 6 6 6-6",
  annotate: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  people:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.5-4 3-6 6.500-6s6 2 6.500 6M16 4.500a3.300 3.300 0 0 1 0 6.200M18 14.500c2 .7 3.200 2.600 3.500 5.500",
  runs: "M4 19V5M4 19h16M8 15l4-5 3 3 5-7",
  compared: "M12 4v16M5 8h14M5 8l-3 7h6zM19 8l-3 7h6z",
  ratings: "m12 4 2.500 5.200 5.500.700-4 3.900 1 5.700-5-2.800-5 2.800 1-5.700-4-3.900 5.500-.700z",
  traffic: "M3 12h4l3-7 4 14 3-7h4",
  data: "M12 8c4.400 0 8-1.100 8-2.500S16.400 3 12 3 4 4.100 4 5.500 7.600 8 12 8zM4 5.500v13C4 19.900 7.600 21 12 21s8-1.100 8-2.500v-13M4 12c0 1.400 3.600 2.500 8 2.500s8-1.100 8-2.500",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M6 6h12v12H6z",
  edit: "M4 20h4L19 9l-4-4L4 16z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  again: "M20 12a8 8 0 1 1-2.500-5.800M20 3v4h-4",
  up: "M7 11v9H4v-9zM7 11l4-8c1.700 0 2.500 1 2.500 2.500L13 9h5.500c1.300 0 2.100 1 1.800 2.300l-1.500 7c-.3 1-1 1.700-2 1.700H7",
  down: "M7 13V4H4v9zM7 13l4 8c1.700 0 2.500-1 2.500-2.500L13 15h5.500c1.300 0 2.100-1 1.800-2.300l-1.500-7c-.3-1-1-1.700-2-1.700H7",
  left: "m14 6-6 6 6 6",
  right: "m10 6 6 6-6 6",
  close: "M6 6l12 12M18 6 6 18",
  menu: "M4 7h16M4 12h16M4 17h16",
  light:
    "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.600 5.600 7 7M17 17l1.400 1.400M5.600 18.400 7 17M17 7l1.400-1.400",
  dark: "M20 14.500A8 8 0 0 1 9.500 4a8 8 0 1 0 10.500 10.500z",
  system: "M3 5h18v11H3zM9 20h6M12 16v4",
  key: "M15 13a4 4 0 1 0-3.900-3L4 17v3h3v-2h2v-2h2l1.100-1.100A4 4 0 0 0 15 13z",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.500 20.500c.6-4 3.500-6 7.500-6s6.900 2 7.500 6",
  plus: "M12 5v14M5 12h14",
  sliders:
    "M4 7h9M17 7h3M4 17h3M11 17h9M15 9.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM9 19.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z",
  list: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  check: "m5 12 5 5 9-10",
  note: "M5 4h14v16H5zM8.500 9h7M8.500 13h7M8.500 17h4",
  keyboard: "M3 6h18v12H3zM7 10h.01M11 10h.01M15 10h.01M17.500 10h.01M8 14h8",
  alert: "M12 4 2.500 20h19zM12 10v4M12 17h.01",
} as const;

export type IconName = keyof typeof PATHS;

/** A drawing that says nothing to a screen reader: what it stands beside, or its button's label, does. */
export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
