import { describeRuns } from "../engine/report.ts";
import { commitModel } from "./model.ts";
import { COVERS, NEVER, SOUND } from "./runs.ts";

describeRuns({ model: "the commit protocol", make: commitModel, sound: SOUND, covers: COVERS, never: NEVER });
