import { test } from "vitest";
import { describeRuns } from "../engine/report.ts";
import { commitModel } from "./model.ts";
import { BOUNDS, NEVER } from "./runs.ts";

// Four minutes of one core more: `npm run test:model:bounds`.
if (process.env["MODEL_BOUNDS"] === "1")
  describeRuns({ model: "the commit protocol, more faults", make: commitModel, sound: BOUNDS, never: NEVER });
else test.skip("faults that come twice", () => {});
