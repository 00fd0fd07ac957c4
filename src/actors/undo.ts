/**
 * The undo log of a shard's state: how to take back every change since the batch began, in reverse.
 *
 * One log serves two levels: a record that fails is rolled back to its mark, a batch that Postgres refused to its beginning.
 * The values themselves are never changed in place, so putting a reference back restores them.
 */
export class UndoLog {
  readonly #inverses: Array<() => void> = [];

  /** @param inverse takes back the change just made; called only when all later changes are taken back already */
  record(inverse: () => void): void {
    this.#inverses.push(inverse);
  }

  mark(): number {
    return this.#inverses.length;
  }

  /** Takes back every change since the mark. */
  rollback(mark: number): void {
    while (this.#inverses.length > mark) this.#inverses.pop()!();
  }

  /** Keeps every change. */
  forget(): void {
    this.#inverses.length = 0;
  }
}

/** A map whose changes stand in an undo log. The order of its entries is not restored. */
export class UndoMap<K, V> {
  readonly #undo: UndoLog;
  readonly #map = new Map<K, V>();

  constructor(undo: UndoLog) {
    this.#undo = undo;
  }

  get size(): number {
    return this.#map.size;
  }

  get(key: K): V | undefined {
    return this.#map.get(key);
  }

  entries(): Array<[K, V]> {
    return [...this.#map];
  }

  set(key: K, value: V): void {
    const before = this.#map.get(key);
    const had = before !== undefined || this.#map.has(key);
    this.#map.set(key, value);
    this.#undo.record(had ? () => this.#map.set(key, before as V) : () => this.#map.delete(key));
  }

  delete(key: K): void {
    if (!this.#map.has(key)) return;
    const before = this.#map.get(key) as V;
    this.#map.delete(key);
    this.#undo.record(() => this.#map.set(key, before));
  }
}
