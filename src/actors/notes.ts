/**
 * What a fold did, for those who watch it: metrics, and the books of the commit. Neither state nor output depends on it, and a
 * replay takes no notice of it.
 *
 * Invariants
 *   NT1  A unit that is undone leaves no notes but one: the step at which it failed.
 *   NT2  Each record taken is noted once: stepped, late, dropped or set aside.
 */

/** One event that an actor took. */
export interface StepNote {
  readonly actorType: string;
  readonly key: string;
  /** Event time of the record or timer, ms. */
  readonly timeMs: number;
  emitted: number;
  /** All that the step brought about was carried out. */
  done: boolean;
}

/** A record or timer on its way to the dead letters. */
export interface SetAsideNote {
  readonly kind: "record" | "timer";
  /** Input of the record; of a timer, the app's first. */
  readonly topic: string;
  readonly code: string;
  /** For a reason outside of the machine. */
  readonly verdict: boolean;
}

export interface FoldNotes {
  readonly steps: readonly StepNote[];
  /** Steps that threw, and were undone with all that their record or timer had done. */
  readonly threw: readonly StepNote[];
  /** Records that went through the actors. */
  readonly stepped: number;
  /** Input topics of records that were late. */
  readonly late: readonly string[];
  /** Input topics of records that their source had published before. */
  readonly dropped: readonly string[];
  readonly setAside: readonly SetAsideNote[];
}

export class Notebook implements FoldNotes {
  readonly steps: StepNote[] = [];
  readonly threw: StepNote[] = [];
  stepped = 0;
  readonly late: string[] = [];
  readonly dropped: string[] = [];
  readonly setAside: SetAsideNote[] = [];

  step(actorType: string, key: string, timeMs: number): StepNote {
    const note = { actorType, key, timeMs, emitted: 0, done: false };
    this.steps.push(note);
    return note;
  }

  /** @returns what takes the notes back to where they are now, but for the step that failed */
  mark(): () => void {
    const { stepped } = this;
    const [steps, threw, late] = [this.steps.length, this.threw.length, this.late.length];
    const [dropped, setAside] = [this.dropped.length, this.setAside.length];
    return () => {
      const failed = this.steps.length > steps ? this.steps.at(-1) : undefined;
      this.steps.length = steps;
      this.threw.length = threw;
      this.late.length = late;
      this.dropped.length = dropped;
      this.setAside.length = setAside;
      this.stepped = stepped;
      if (failed && !failed.done) this.threw.push(failed);
    };
  }
}
