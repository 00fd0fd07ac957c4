/**
 * Leaves only records that a `read_committed` reader may see, by the algorithm of Kafka's Java consumer.
 *
 * An answer lists the aborted transactions that touch it, by producer id and first offset. A transactional batch belongs to
 * an aborted one from that offset on, until the ABORT marker of that producer. Batches decide, not records: all records of
 * a batch are of one transaction.
 *
 * Invariants
 *   F1  No record of an aborted transaction passes, however many overlap in one answer.
 *   F2  A data record is never taken for a marker, whatever its key: only control batches hold markers.
 *   F3  No control record passes.
 *
 * kafkajs' own filter breaks F1 (it takes one aborted transaction off its list per record) and F2 (any key of four zero
 * bytes is a marker to it); test/contract/kafka/fetcher.test.ts shows both side by side.
 */
import type { AbortedTransaction, WireRecord } from "./wire.ts";

/** Key of a control record: version (int16), type (int16); type 0 is ABORT, 1 is COMMIT. */
const ABORT_TYPE = 0;

export function filterCommitted(
  records: readonly WireRecord[],
  abortedTransactions: readonly AbortedTransaction[] | null,
): WireRecord[] {
  const pending = (abortedTransactions ?? [])
    .map(({ producerId, firstOffset }) => ({ producerId, firstOffset: BigInt(firstOffset) }))
    .sort((a, b) => (a.firstOffset < b.firstOffset ? -1 : a.firstOffset > b.firstOffset ? 1 : 0));
  let next = 0;
  const aborted = new Set<string>();
  const committed: WireRecord[] = [];

  let batch: WireRecord["batchContext"] | undefined;
  let batchPasses = false;
  for (const record of records) {
    if (record.batchContext !== batch) {
      batch = record.batchContext;
      const lastOffset = BigInt(batch.firstOffset) + BigInt(batch.lastOffsetDelta);
      for (; next < pending.length && pending[next]!.firstOffset <= lastOffset; next++) {
        aborted.add(pending[next]!.producerId);
      }
      if (isAbortMarker(record)) aborted.delete(batch.producerId);
      batchPasses = !record.isControlRecord && !(batch.inTransaction && aborted.has(batch.producerId));
    }
    if (batchPasses) committed.push(record);
  }
  return committed;
}

function isAbortMarker(record: WireRecord): boolean {
  return (
    record.isControlRecord && record.key !== null && record.key.length >= 4 && record.key.readInt16BE(2) === ABORT_TYPE
  );
}
