/**
 * What all queues of a worker may hold together: each queue that is open has an equal share, however many there are.
 *
 * A share is a mark, not a reservation: a queue is paused when it has reached its share, so it may hold one answer of the broker more.
 *
 * Invariants
 *   QB1  The shares of all open queues add up to the budget, and none is 0: a queue that is empty may always be filled.
 *   QB2  A share changes only when a queue is opened or closed; nobody waits for another shard to take its records.
 */
import { assert } from "../errors.ts";
import type { Judged } from "./judge.ts";

/**
 * Memory of a judged record beside its bytes: the objects that hold key, value, headers, numbers and the event. Measured on
 * Node 20 with records of 120 bytes: 1,280 bytes a record, of which about twice the record's own bytes are the parsed value.
 */
const OBJECT_BYTES = 1_000;
/** The bytes as they came, and the value that was parsed from them: about twice as many. */
const TIMES_IN_MEMORY = 3;

/** About what a queued record takes of memory, bytes. */
export function memoryOf({ bytes }: Judged): number {
  return OBJECT_BYTES + TIMES_IN_MEMORY * bytes;
}

export class QueueBudget {
  readonly #bytesMax: number;
  #queues = 0;

  /** @param bytesMax memory of all queues together, as `memoryOf` counts it */
  constructor(bytesMax: number) {
    assert(bytesMax > 0, `the budget of the queues is ${bytesMax} bytes`);
    this.#bytesMax = bytesMax;
  }

  /** Of one queue, bytes: all of it while none is open. */
  get share(): number {
    return Math.max(1, Math.floor(this.#bytesMax / Math.max(1, this.#queues)));
  }

  /** @returns what closes them again; idempotent */
  open(queues: number): () => void {
    let isOpen = true;
    this.#queues += queues;
    return () => {
      if (isOpen) this.#queues -= queues;
      isOpen = false;
    };
  }
}
