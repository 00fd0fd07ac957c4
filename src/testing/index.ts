/** The public API for tests of apps: `lockstep/testing`. */
export { Cluster } from "./cluster.ts";
export { FAULT_KINDS, FAULTS, type FaultKind, NO_FAULTS, type Weather } from "./faults.ts";
export type { Example, Examples, InputValue, TimedEvent } from "./generated/events.ts";
export {
  type MachineTest,
  type MachineTests,
  type MachineTestsOptions,
  machineTests,
} from "./generated/machine-tests.ts";
export { coverageTable, type MachineCoverage } from "./generated/report.ts";
export { createRandom, type Random } from "./random.ts";
export { type LoadRecord, type SimulationOptions, type SimulationOutcome, simulate } from "./simulation.ts";
export type { TableShape } from "./tables.ts";
