import { describeRuns } from "../engine/report.ts";
import { relayModel } from "./model.ts";
import { COVERS, MUTANTS, SOUND } from "./runs.ts";

describeRuns({ model: "the relay", make: relayModel, sound: SOUND, mutants: MUTANTS, covers: COVERS });
