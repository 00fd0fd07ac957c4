import { describeRuns } from "../engine/report.ts";
import { commitModel } from "./model.ts";
import { COVERS, SOUND } from "./runs.ts";

describeRuns({ model: "the commit protocol", make: commitModel, sound: SOUND, covers: COVERS });
