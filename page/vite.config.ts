import { defineConfig } from "vite";
import { licences } from "./licences.ts";

// What is built is committed, so the same source has to give the same bytes on every machine.
export default defineConfig({
  base: "./",
  plugins: [licences()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/v1": "http://127.0.0.1:8000" } },
  build: {
    outDir: "../src/turnsmith/serve/page",
    emptyOutDir: true,
    target: ["chrome123", "firefox120", "safari17.5"],
    cssCodeSplit: false,
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
