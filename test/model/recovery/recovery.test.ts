import { describeRuns } from "../engine/report.ts";
import { recoveryModel } from "./model.ts";
import { COVERS, MUTANTS, SOUND } from "./runs.ts";

describeRuns({ model: "recovery", make: recoveryModel, sound: SOUND, mutants: MUTANTS, covers: COVERS });
