/** The public API for tests of apps: `lockstep/testing`. */
export { Cluster } from "./cluster.ts";
export { FAULT_KINDS, FAULTS, type FaultKind, NO_FAULTS, type Weather } from "./faults.ts";
export { createRandom, type Random } from "./random.ts";
export { type LoadRecord, type SimulationOptions, type SimulationOutcome, simulate } from "./simulation.ts";
export type { TableShape } from "./tables.ts";
