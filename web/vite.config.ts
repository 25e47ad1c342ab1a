// How the browser app is built. The output must need nothing but files of this origin: no inline script, style or data URL.
import { defineConfig } from "vitest/config";

const server = "http://127.0.0.1:8080";

export default defineConfig({
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    // `npm run dev` beside a running Inglenook.
    proxy: { "/api": server, "/v1": server },
  },
  test: { include: ["tests/*.test.ts"] },
});
