/** Mutants of recovery (test/model/recovery/runs.ts), in the code that they are about. */
import type { Mutant } from "./mutant.ts";

const COMMIT = "src/runtime/commit.ts";
const RESTORE = "src/runtime/restore.ts";
const SHARD = "src/runtime/shard.ts";
const SNAPSHOTTER = "src/runtime/snapshotter.ts";
/** The store in memory: the statements of src/storage; both pass one contract. */
const STORE = "src/testing/shard-store.ts";

const FLIPPED_EARLY = [
  { file: SNAPSHOTTER, from: "const PIECE_BYTES = 512 * 1024;", to: "const PIECE_BYTES = 64;" },
  {
    file: SNAPSHOTTER,
    from: "    for (const piece of captured.capture.pieces(PIECE_BYTES)) {\n",
    to: `    const all = [...captured.capture.pieces(PIECE_BYTES)];
    const whole = createHash("sha256").update(Buffer.concat(all)).digest("hex");
    for (const piece of all) {
      if (pieces === all.length - 1)
        this.#written = { ...captured, pieces: all.length, bytes: Buffer.concat(all).length, digest: whole };
`,
  },
  {
    file: SNAPSHOTTER,
    from: "      this.#written = await this.#write(standing.ownership, capture);\n",
    to: "      await this.#write(standing.ownership, capture);\n",
  },
] as const;

export const RECOVERY_MUTANTS: readonly Mutant[] = [
  {
    name: "the pointer is flipped before the last piece is written",
    model: "recovery",
    what: "a snapshot is published while its last piece is on its way",
    patches: FLIPPED_EARLY,
    app: "ledger",
    seedsMax: 100,
    finds: ["halt SNAPSHOT_BROKEN"],
  },
  {
    name: "the pointer is flipped before the last piece is written +",
    model: "recovery",
    what: "as before, and Postgres does not count the pieces",
    patches: [
      ...FLIPPED_EARLY,
      {
        file: STORE,
        from: "  if (found.includes(undefined) || bytes !== manifest.bytes) throw",
        to: "  if (bytes < 0) throw",
      },
      {
        file: STORE,
        from: "    !snapshots.some(({ manifest }) => manifest.seq === seq && manifest.token === token),\n",
        to: "    snapshots.length >= 0,\n",
      },
    ],
    app: "ledger",
    seedsMax: 1_000,
    finds: ["halt SNAPSHOT_BROKEN", "I8"],
  },
  {
    name: "verdicts are not journaled",
    model: "recovery",
    what: "the journal does not say which records were not stepped",
    patches: [{ file: COMMIT, from: "verdicts: [...passed, ...effects.verdicts] };", to: "verdicts: [] };" }],
    app: "ledger",
    seedsMax: 100,
    finds: ["I6", "I7", "I8", "halt MACHINE_CHANGED"],
  },
  {
    name: "the journal is pruned above the confirmed seq",
    model: "recovery",
    what: "a snapshot takes every journal row with it that it covers",
    patches: [{ file: STORE, from: "one.seq > covered || one.seq >= confirmed ||", to: "one.seq > covered ||" }],
    app: "ledger",
    seedsMax: 2_000,
    finds: ["halt POSITIONS_CONTRADICT", "halt JOURNAL_BROKEN", "I14"],
  },
  {
    name: "pieces are made of the live state",
    model: "recovery",
    what: "the pieces of a snapshot are made when they are written, not when it was captured",
    patches: [
      {
        file: SNAPSHOTTER,
        from: "    return { startMs: this.#context.clock.monotonicMs(), seq, positions, capture: model.capture() };\n",
        to: `    const captured = model.capture();
    const capture = Object.assign(Object.create(captured), { pieces: (max: number) => model.capture().pieces(max) });
    return { startMs: this.#context.clock.monotonicMs(), seq, positions, capture };
`,
      },
      {
        file: SNAPSHOTTER,
        from: '    await hook("snapshot.captured");\n',
        to: '    await hook("snapshot.captured");\n    await this.#context.clock.sleep(20);\n',
      },
    ],
    app: "ledger",
    seedsMax: 500,
    finds: ["halt MACHINE_CHANGED", "halt INVARIANT_BROKEN", "I6", "I8"],
  },
  {
    name: "a shard is given up without a snapshot",
    model: "recovery",
    what: "a drain writes no snapshot, and does not notice",
    patches: [
      { file: SHARD, from: "      await snapshotter.finish(standing);\n", to: "      await snapshotter.settle();\n" },
      { file: SHARD, from: "        snapshotter.seq === standing.seq && standing", to: "        standing" },
    ],
    app: "ledger",
    seedsMax: 100,
    finds: ["I10"],
  },
  {
    name: "a fold whose commit did not happen is kept",
    model: "recovery",
    what: "an undecided fold is taken for committed, whatever the row says",
    patches: [
      {
        file: RESTORE,
        from: "  else if (row.seq === memory.seq) memory.model.discard();\n",
        to: "  else if (row.seq === memory.seq) memory.model.accept();\n",
      },
    ],
    app: "ledger",
    seedsMax: 1_000,
    finds: ["I6", "I7", "I8", "halt RECORDS_UNACCOUNTED", "halt MACHINE_CHANGED", "halt ID_COLLISION"],
  },
];
