/** Mutants of the commit protocol (test/model/commit/runs.ts), in the code that they are about. */
import type { Mutant } from "./mutant.ts";

const ACQUIRE = "src/runtime/acquire.ts";
const COMMIT = "src/runtime/commit.ts";
const SHARD = "src/runtime/shard.ts";
const RECONCILE = "src/runtime/reconcile.ts";
/** The publisher in memory: request by request what src/kafka/transactional-writer.ts does; both pass one contract. */
const PUBLISHER = "src/testing/publisher.ts";
/** `guard` there is what `lockstep.guard` is in SQL. */
const POSTGRES = "src/testing/postgres.ts";

const TAKE_TOKEN = "  const fenced = await takeToken(context, mode);\n";
const FENCES = "    for (const id of ids) {\n";
const RECONCILE_CALL = "await reconcileShard(context, ownership, writer!)";
const RECONCILE_HEAD = `  writer: TransactionalWriter,
): Promise<Acquired["row"] | null> {
`;
const R2 = "  const committed = await publisher.committed(shard); // R2\n";
const R1 = `  let row = await store.readShard(shard); // R1
  if (row.token !== ownership.token) return null;
`;
const WITNESS_CALL = "await witnessed(context, committed, decide(committed))";
const WITNESS_HEAD = `  answered: Record<string, CommittedOffset>,
  decision: Reconciliation,
`;
const PUBLISH = "    await standing.writer.publish({ records: outputs, positions, metadata });\n";

export const COMMIT_MUTANTS: readonly Mutant[] = [
  {
    name: "R2 before F2",
    model: "commit",
    what: "Kafka's offsets, and their log, are read before the predecessor's transaction is decided",
    patches: [
      {
        file: ACQUIRE,
        from: FENCES,
        to: `    const early = await context.publisher.committed(shard);
    const inLog = await context.publisher.committedInLog(shard);
${FENCES}`,
      },
      { file: ACQUIRE, from: RECONCILE_CALL, to: "await reconcileShard(context, ownership, writer!, early, inLog)" },
      {
        file: ACQUIRE,
        from: RECONCILE_HEAD,
        to: RECONCILE_HEAD.replace(
          "\n)",
          "\n  committed: Record<string, CommittedOffset>,\n  inLog: Record<string, CommittedOffset> | null,\n)",
        ),
      },
      { file: ACQUIRE, from: R2, to: "" },
      { file: ACQUIRE, from: WITNESS_CALL, to: WITNESS_CALL.replace(", decide", ", inLog, decide") },
      {
        file: ACQUIRE,
        from: WITNESS_HEAD,
        to: WITNESS_HEAD.replace("\n  decision", "\n  found: Record<string, CommittedOffset> | null,\n  decision"),
      },
      { file: ACQUIRE, from: "  const found = await context.publisher.committedInLog(context.shard);\n", to: "" },
    ],
    app: "ledger",
    seedsMax: 500,
    finds: ["halt POSITIONS_CONTRADICT", "I5", "I6"],
  },
  {
    name: "R1 before F1",
    model: "commit",
    what: "row and redo are read before the predecessor is kept from committing",
    patches: [
      {
        file: ACQUIRE,
        from: TAKE_TOKEN,
        to: `  const earlyRow = await store.readShard(shard);
  const earlyRedo = await store.readRedo(shard, earlyRow.confirmed);
${TAKE_TOKEN}`,
      },
      {
        file: ACQUIRE,
        from: RECONCILE_CALL,
        to: "await reconcileShard(context, ownership, writer!, earlyRow, earlyRedo)",
      },
      {
        file: ACQUIRE,
        from: RECONCILE_HEAD,
        to: RECONCILE_HEAD.replace(
          "\n)",
          '\n  earlyRow: ShardRow,\n  redo: Awaited<ReturnType<ShardContext["store"]["readRedo"]>>,\n)',
        ),
      },
      { file: ACQUIRE, from: R1, to: "  let row = earlyRow;\n" },
      { file: ACQUIRE, from: "  const redo = await store.readRedo(shard, row.confirmed);\n", to: "" },
    ],
    app: "ledger",
    seedsMax: 500,
    finds: ["halt STORE_WENT_BACK", "halt POSITIONS_CONTRADICT"],
  },
  {
    name: "R1 before R2, a halt does not read the row again",
    model: "commit",
    what: "an owner that was replaced meanwhile takes what it reads for a contradiction, and does not look whose the shard is",
    patches: [
      { file: ACQUIRE, from: R2, to: "" },
      { file: ACQUIRE, from: R1, to: `${R1}${R2}` },
      { file: ACQUIRE, from: 'error.remedy === "halt" && !(await stillOurs())', to: "(await stillOurs()) === null" },
      {
        file: SHARD,
        from: 'mode.kind === "again" ? await this.#stillOurs(mode.token) : true;',
        to: "true as boolean | null;",
      },
    ],
    app: "ledger",
    seedsMax: 1_000,
    finds: ["halt POSITIONS_CONTRADICT", "halt REDO_BROKEN", "halt STORE_WENT_BACK"],
  },
  {
    name: "start positions are not written with seq 0",
    model: "commit",
    what: "the first owner begins without a transaction of the start positions",
    patches: [
      {
        file: ACQUIRE,
        from: '  if (decision.kind === "clean") return',
        to: '  if (decision.kind === "clean" || decision.kind === "first") return',
      },
    ],
    app: "ledger",
    seedsMax: 500,
    finds: ["halt POSITIONS_CONTRADICT"],
  },
  {
    name: "a transactional id per owner",
    model: "commit",
    what: "each process has transactional ids of its own, and fences no other's",
    patches: [
      {
        file: "src/runtime/worker.ts",
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is code
        from: "transactionalId: `${groupId}-${shard}`",
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is code
        to: "transactionalId: `${groupId}-${config.host}-${shard}`",
      },
      {
        file: ACQUIRE,
        from: FENCES,
        to: "    for (const id of ids.filter((one) => one === context.transactionalId)) {\n",
      },
    ],
    app: "ledger",
    seedsMax: 500,
    finds: ["halt POSITIONS_CONTRADICT", "I2", "I5", "I6"],
  },
  {
    name: "the token is checked by the client",
    model: "commit",
    what: "an owner asks for the token before it commits, and Postgres does not compare it",
    patches: [
      {
        file: COMMIT,
        from: "    await context.store.commit({\n",
        to: `    if ((await context.store.readShard(context.shard)).token !== standing.ownership.token)
      throw new LockstepError("SHARD_LOST", "the shard is held under another token");
    await context.store.commit({
`,
      },
      { file: POSTGRES, from: "  if (row.token !== ownership.token)\n", to: "  if (row.token === null)\n" },
      {
        file: POSTGRES,
        from: "  if (row.epoch === ownership.epoch && row.seq === seq) return;\n",
        to: "  if (row.seq === seq) return;\n",
      },
    ],
    app: "ledger",
    seedsMax: 1_000,
    finds: ["halt STORE_WENT_BACK", "halt REDO_BROKEN", "halt POSITIONS_CONTRADICT", "I5", "I6"],
  },
  {
    name: "EndTxn is repeated",
    model: "commit",
    what: "EndTxn is sent again when its answer was lost",
    patches: [
      { file: PUBLISHER, from: 'await send("endTransaction commit"', to: 'await repeat("endTransaction commit"' },
    ],
    app: "ledger",
    seedsMax: 2_000,
    finds: ["halt POSITIONS_CONTRADICT", "I2", "I5", "I6"],
  },
  {
    name: "TxnOffsetCommit is repeated after a lost answer",
    model: "commit",
    what: "TxnOffsetCommit is sent again when its answer was lost",
    patches: [
      {
        file: PUBLISHER,
        from: "kafka.commitOffsets(identity, offsets), { once: true });",
        to: "kafka.commitOffsets(identity, offsets));",
      },
    ],
    app: "ledger",
    seedsMax: 2_000,
    finds: ["halt POSITIONS_CONTRADICT", "I2", "I5", "I6"],
  },
  {
    name: "the producer is used again after an error",
    model: "commit",
    what: "a transaction that failed is made again by the same producer, without acquiring anew",
    patches: [
      {
        file: PUBLISHER,
        from: '        if (state === "publishing") state = "failed";\n',
        to: '        state = "ready";\n',
      },
      {
        file: COMMIT,
        from: PUBLISH,
        to: `    const transaction = { records: outputs, positions, metadata };
    await standing.writer.publish(transaction).catch((error: unknown) => {
      if (isLockstepError(error) && error.details["fenced"] === true) throw error;
      return standing.writer.publish({ ...transaction, again: true });
    });
`,
      },
    ],
    app: "ledger",
    seedsMax: 1_000,
    finds: ["halt POSITIONS_CONTRADICT", "I2", "I5", "I6"],
  },
  {
    name: "redo is deleted before Kafka has it",
    model: "commit",
    what: "a commit is confirmed in Postgres before its Kafka transaction",
    patches: [
      {
        file: COMMIT,
        from: PUBLISH,
        to: `    await context.store.confirm(standing.ownership, seq, seq);\n${PUBLISH}`,
      },
    ],
    app: "ledger",
    seedsMax: 200,
    finds: ["halt POSITIONS_CONTRADICT", "I6"],
  },
  {
    name: "reconcile by positions alone",
    model: "commit",
    what: "where Kafka's offsets are the row's positions, nothing is taken to be missing: a commit of a tick alone moves none",
    patches: [
      {
        file: RECONCILE,
        from: "  const k = mark.seq;\n",
        to: `  if (topics.every((topic, i) => offsets[i]!.offset === positions[topic])) return { kind: "clean" };
  const k = mark.seq;
`,
      },
    ],
    app: "ledger",
    seedsMax: 1_000,
    finds: ["I2", "I6", "halt POSITIONS_CONTRADICT"],
  },
];
