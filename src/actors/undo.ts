/**
 * The undo log of a shard's state: how to take back every change since the batch began, in reverse.
 *
 * One log serves two levels: a record that fails is rolled back to its mark, a batch that Postgres refused to its beginning.
 * The values themselves are never changed in place, so putting a reference back restores them.
 *
 * Invariants
 *   UL1  A rollback to a mark gives back what was there at the mark, whether or not the log was shortened since the batch began.
 *   UL2  A shortened log holds of each key no other value than the one it had at the beginning: what actors were between two
 *        records of a batch is garbage before the commit is waited for, and not copied about until Postgres and Kafka have answered.
 */
export class UndoLog {
  #changes: Change[] = [];

  /** @param change made just now; taken back only when all later changes are taken back already */
  record(change: Change): void {
    this.#changes.push(change);
  }

  mark(): number {
    return this.#changes.length;
  }

  /** Takes back every change since the mark. */
  rollback(mark: number): void {
    while (this.#changes.length > mark) this.#changes.pop()!.takeBack();
  }

  /** Keeps every change. */
  forget(): void {
    this.#changes = [];
  }

  /** Of several changes of one key only the first is kept: all of them, or none, will be taken back. Marks of before are void. */
  shorten(): void {
    const seen = new Map<unknown, Set<unknown>>();
    this.#changes = this.#changes.filter((change) => {
      if (!(change instanceof MapChange)) return true;
      const keys = seen.get(change.map);
      if (keys === undefined) seen.set(change.map, new Set([change.key]));
      else if (keys.has(change.key)) return false;
      else keys.add(change.key);
      return true;
    });
  }
}

export interface Change {
  takeBack(): void;
}

class MapChange<K, V> implements Change {
  readonly map: Map<K, V>;
  readonly key: K;
  readonly #before: V | undefined;
  readonly #had: boolean;

  constructor(map: Map<K, V>, key: K) {
    this.map = map;
    this.key = key;
    this.#before = map.get(key);
    this.#had = this.#before !== undefined || map.has(key);
  }

  takeBack(): void {
    if (this.#had) this.map.set(this.key, this.#before as V);
    else this.map.delete(this.key);
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
    this.#undo.record(new MapChange(this.#map, key));
    this.#map.set(key, value);
  }

  delete(key: K): void {
    if (!this.#map.has(key)) return;
    this.#undo.record(new MapChange(this.#map, key));
    this.#map.delete(key);
  }
}
