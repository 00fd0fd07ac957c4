/**
 * When memory has come to rest.
 *
 * Rule: windows of 10 s, the median of each. At rest is who, for two windows in a row, has not risen by more than 2% above the greatest
 * window before them; from the fourth window on, since the first ones are the start. Medians, because a heap breathes with each of its
 * collections. 2%: what a process of some 450 MB goes up and down by from window to window under an even load.
 */
import { median } from "./figures.ts";

export const WINDOW_MS = 10_000;
const QUIET_WINDOWS = 2;
const WINDOWS_MIN = 4;
const RISE_MAX = 0.02;

export class Rest {
  readonly #windows: number[][] = [];

  /** @param atMs since the begin, ascending */
  add(bytes: number, atMs: number): void {
    const index = Math.floor(atMs / WINDOW_MS);
    while (this.#windows.length <= index) this.#windows.push([]);
    this.#windows[index]!.push(bytes);
  }

  /** The last window is still open and does not count. */
  get isReached(): boolean {
    const medians = this.#medians();
    if (medians.length < WINDOWS_MIN) return false;
    const before = Math.max(...medians.slice(0, -QUIET_WINDOWS));
    return medians.slice(-QUIET_WINDOWS).every((each) => each <= before * (1 + RISE_MAX));
  }

  /** The greater of the latest windows, bytes; 0 before there is one. */
  get bytes(): number {
    return Math.max(0, ...this.#medians().slice(-QUIET_WINDOWS));
  }

  #medians(): number[] {
    return this.#windows
      .slice(0, -1)
      .filter((window) => window.length > 0)
      .map(median);
  }
}
