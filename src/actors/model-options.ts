/** What a model is made with: the app, and what it may not find out by itself. */
import type { App } from "./app.ts";
import type { StepWatch } from "./step-target.ts";

export interface ModelOptions {
  readonly app: App;
  readonly shard: number;
  /** Partitions of a topic that the app writes to. */
  partitionsOf(topic: string): number;
  /** Take clock, chance and timers away while machines and routes run, and freeze what machines return. */
  readonly strict: boolean;
  readonly limits: {
    /** Instead of the app's own. */
    readonly tellsMax?: number;
    /** Timers that one tick fires, unless told otherwise. */
    readonly timersPerCommit: number;
    /** The largest batch that a topic takes (its `max.message.bytes`): dead letters are cut to fit. */
    outputBytesMax(topic: string): number;
    /** What is larger is refused; default `outputBytesMax`. A replay refuses nothing: what was refused then has a verdict. */
    effectBytesMax?(topic: string): number;
  };
  /** Is told what is about to be stepped. */
  readonly watch?: StepWatch;
}
