import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

interface Described {
  name: string;
  version: string;
  license: string;
}

/** Writes LICENSES.txt: the licence of every package of which something is in the build. */
export function licences(): Plugin {
  return {
    name: "licences",
    generateBundle(_, bundle) {
      const modules = Object.values(bundle).flatMap((one) => (one.type === "chunk" ? one.moduleIds : []));
      const roots = new Set(modules.filter((id) => id.includes("/node_modules/")).map(root));
      const source = [...roots]
        .map(text)
        .sort()
        .join(`\n${"-".repeat(80)}\n\n`);
      this.emitFile({ type: "asset", fileName: "LICENSES.txt", source });
    },
  };
}

/** The folder of the package that a module belongs to. */
function root(id: string): string {
  for (let place = dirname(id); place !== "/"; place = dirname(place)) {
    const described = join(place, "package.json");
    if (existsSync(described) && "version" in JSON.parse(readFileSync(described, "utf8"))) return place;
  }
  throw new Error(`${id} belongs to no package`);
}

function text(place: string): string {
  const { name, version, license } = JSON.parse(
    readFileSync(join(place, "package.json"), "utf8"),
  ) as Described;
  const files = readdirSync(place)
    .filter((one) => /^licen[cs]e/i.test(one))
    .sort();
  if (!files.length) throw new Error(`${name} has no licence in ${place}`);
  const texts = files.map((one) => readFileSync(join(place, one), "utf8").trim());
  return `${name} ${version} (${license})\n\n${texts.join("\n\n")}\n`;
}
