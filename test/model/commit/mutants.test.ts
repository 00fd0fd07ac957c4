import { describeRuns } from "../engine/report.ts";
import { commitModel } from "./model.ts";
import { MUTANTS } from "./runs.ts";

describeRuns({ model: "the commit protocol, mutants", make: commitModel, mutants: MUTANTS });
