/** What happens without the owners: markers, aborts, time-outs, late requests, crashes, rebalances, expiry, failover. */
import type { Emit } from "../engine/explore.ts";
import { leave } from "./acquire.ts";
import { completeAbort, hasOpenRecords, raiseEpoch, writeOffsetMarkers, writeRecordMarkers } from "./kafka.ts";
import { failOver } from "./postgres.ts";
import { deliver } from "./requests.ts";
import {
  backup,
  current,
  HALTED,
  IDLE,
  kafka,
  next,
  ONGOING,
  own,
  ownerAt,
  PREPARE_ABORT,
  PREPARE_COMMIT,
  REQUEST_NAMES,
  REQUESTS,
  req,
  requestAt,
  start,
  world,
} from "./state.ts";

export function environmentSteps(emit: Emit): void {
  for (let j = 0; j < 2; j += 1) brokerSteps(j, emit);
  for (let m = 0; m < REQUESTS; m += 1) {
    const kind = current[requestAt(m) + req.kind]!;
    if (kind === 0) continue;
    start();
    deliver(m);
    emit("fair", `sent a ${REQUEST_NAMES[kind]} that arrives now`, current[requestAt(m) + req.from]!);
  }
  for (let i = 0; i < 2; i += 1) {
    const pc = current[ownerAt(i) + own.pc]!;
    if (current[world.crashes] === 0 || pc === IDLE || pc === HALTED) continue;
    start();
    next[world.crashes]! -= 1;
    leave(i);
    emit("fault", "crashes", i);
  }
  if (current[world.rebalances]! > 0) {
    start();
    next[world.rebalances]! -= 1;
    next[world.assigned] = 1 - next[world.assigned]!;
    emit("fault", "is assigned the shard", next[world.assigned]!);
  }
  if (current[world.expiries]! > 0 && current[kafka.offset]! > 0) {
    start();
    next[world.expiries]! -= 1;
    next.fill(0, kafka.offset, kafka.offsetLabel + 2);
    emit("fault", "the group's offsets expire");
  }
  if (current[world.failovers] === 0) return;
  for (let lost = 1; lost <= current[backup.count]!; lost += 1) {
    start();
    next[world.failovers]! -= 1;
    next[world.failedOver] = 1;
    failOver(lost as 1 | 2);
    emit("fault", "failover, Postgres transactions lost:", -1, lost);
  }
}

function brokerSteps(j: number, emit: Emit): void {
  const status = current[kafka.status + j];
  if (status === PREPARE_COMMIT) {
    start();
    if (hasOpenRecords(j)) {
      writeRecordMarkers(j);
      emit("fair", "Kafka writes the markers of records, id", -1, j);
    }
    if (current[kafka.pending + j]! > 0) {
      start();
      writeOffsetMarkers(j);
      emit("fair", "Kafka writes the marker of offsets, id", -1, j);
    }
  }
  if (status === PREPARE_ABORT) {
    start();
    completeAbort(j);
    emit("fair", "Kafka completes the abort, id", -1, j);
  }
  if (status === ONGOING && current[world.timeouts]! > 0) {
    start();
    next[world.timeouts]! -= 1;
    raiseEpoch(j);
    next[kafka.status + j] = PREPARE_ABORT;
    emit("fault", "the transaction times out, id", -1, j);
  }
}
