import type { ComponentType } from "preact";
import type { About } from "./api";
import type { IconName } from "./parts/icon";
import { texts } from "./texts";

/** A view. path: the first part of the hash; what stands behind it is passed to the view as `rest`.
 * key: goes there after `g`. least: the role that it needs. kept: whether it needs a store. */
export interface Route {
  path: string;
  name: string;
  icon: IconName;
  group: "talk" | "watch";
  key: string;
  least?: About["role"];
  kept?: boolean;
  hidden?: boolean;
  view: () => Promise<{ default: ComponentType<{ rest: string[] }> }>;
}

const { views } = texts;

/** All views, in the order of the navigation. */
export const routes: readonly Route[] = [
  {
    path: "chat",
    name: views.chat,
    icon: "chat",
    group: "talk",
    key: "c",
    view: () => import("./views/chat"),
  },
  {
    path: "pair",
    name: views.pair,
    icon: "pair",
    group: "talk",
    key: "p",
    kept: true,
    view: () => import("./views/pair"),
  },
  {
    path: "rank",
    name: views.rank,
    icon: "rank",
    group: "talk",
    key: "k",
    kept: true,
    view: () => import("./views/rank"),
  },
  {
    path: "annotate",
    name: views.annotate,
    icon: "annotate",
    group: "talk",
    key: "a",
    least: "annotator",
    kept: true,
    view: () => import("./views/annotate"),
  },
  {
    path: "people",
    name: views.people,
    icon: "person",
    group: "talk",
    key: "y",
    view: () => import("./views/people"),
  },
  {
    path: "runs",
    name: views.runs,
    icon: "runs",
    group: "watch",
    key: "r",
    least: "annotator",
    view: () => import("./views/runs"),
  },
  {
    path: "compared",
    name: views.compared,
    icon: "compared",
    group: "watch",
    key: "o",
    least: "annotator",
    view: () => import("./views/compared"),
  },
  {
    path: "ratings",
    name: views.ratings,
    icon: "ratings",
    group: "watch",
    key: "w",
    least: "annotator",
    kept: true,
    view: () => import("./views/ratings"),
  },
  {
    path: "traffic",
    name: views.traffic,
    icon: "traffic",
    group: "watch",
    key: "t",
    least: "admin",
    kept: true,
    view: () => import("./views/traffic"),
  },
  {
    path: "data",
    name: views.data,
    icon: "data",
    group: "watch",
    key: "d",
    least: "annotator",
    view: () => import("./views/data"),
  },
];

export const ROLES: readonly About["role"][] = ["user", "annotator", "admin"];

/** Whether who asks may see a view on this server. */
export function open(route: Route, about: About | null): boolean {
  if (!about) return !route.least && !route.kept;
  return (!route.kept || about.kept) && ROLES.indexOf(about.role) >= ROLES.indexOf(route.least ?? "user");
}
