// What the row of an import says.
import { describe, expect, it } from "vitest";
import { countsText } from "../src/imports";
import type { Import } from "../src/wire";

const told = (status: Import["status"], counts: Partial<Import["counts"]>) =>
  countsText({ status, counts: { queued: 0, imported: 0, unchanged: 0, skipped: 0, failed: 0, gone: 0, removed: 0, ...counts } });

describe("countsText", () => {
  it("names what there is, and what is still to come", () => {
    expect(told("running", { imported: 2, failed: 1, queued: 7 })).toBe("2 added · 1 failed · 7 to go");
    expect(told("cancelled", { imported: 2, queued: 7 })).toBe("2 added · 7 not visited");
  });

  it("says something when there is nothing", () => {
    expect([told("running", {}), told("completed", {})]).toEqual(["fetching", "nothing was found"]);
  });
});
