import { describeRuns } from "../engine/report.ts";
import { commitModel } from "./model.ts";
import { BOUNDS, NEVER } from "./runs.ts";

describeRuns({ model: "the commit protocol, more faults", make: commitModel, sound: BOUNDS, never: NEVER });
