/**
 * Where a relay begins, and every reason not to, as a table (docs/relay.md, R10 to R17).
 */
import { describe, expect, test } from "vitest";

import { formatPosition, parsePosition, type StoredPosition } from "../../../src/relay/position.ts";
import { decideStart, type Found } from "../../../src/relay/start.ts";
import { formatLsn, parseLsn } from "../../../src/storage/lsn.ts";

const log = { systemIdentifier: "7001", timeline: 1, slot: "slot_a" };
const at = (
  lsn: bigint,
  underWay: StoredPosition["position"]["underWay"] = null,
  change: Partial<StoredPosition["log"]> = {},
) => formatPosition({ position: { lsn, underWay }, log: { ...log, ...change } });

const row: NonNullable<Found["row"]> = {
  table: "app.outbox",
  groupId: "g",
  systemIdentifier: "7001",
  publication: "p",
  slot: "slot_a",
  slotLsn: 100n,
  started: true,
  resyncReason: null,
};
const slot: NonNullable<Found["slot"]> = {
  confirmed: 150n,
  restart: 140n,
  walStatus: "reserved",
  activePid: null,
  plugin: "pgoutput",
  safeBytes: null,
};
const found: Found = {
  app: "trading",
  groupId: "g",
  row,
  server: { systemIdentifier: "7001", timeline: 1, flushed: 1_000n },
  slot,
  published: true,
  slotKeepMb: -1,
  committed: at(200n),
};

describe("the relay starts", () => {
  test.each<[name: string, change: Partial<Found>, start: object]>([
    ["at its position", {}, { first: false, position: { lsn: 200n, underWay: null } }],
    [
      "inside a database transaction",
      { committed: at(200n, { commitLsn: 210n, rows: 7 }) },
      { position: { lsn: 200n, underWay: { commitLsn: 210n, rows: 7 } } },
    ],
    ["R4: with the slot behind", { slot: { ...slot, confirmed: 101n } }, { position: { lsn: 200n, underWay: null } }],
    [
      "the first time, where the slot begins",
      { committed: null, row: { ...row, started: false }, slot: { ...slot, confirmed: 100n } },
      { first: true, position: { lsn: 100n, underWay: null } },
    ],
    [
      "R17: at its position, though nobody noted that it had started",
      { row: { ...row, started: false } },
      { first: false },
    ],
    ["at the very end of the log", { committed: at(1_000n) }, { position: { lsn: 1_000n, underWay: null } }],
  ])("%s", (_, change, start) => {
    expect(decideStart({ ...found, ...change })).toMatchObject(start);
  });
});

describe("RI6: the relay halts", () => {
  test.each<[name: string, change: Partial<Found>, code: string]>([
    ["without a set-up", { row: null }, "RELAY_NOT_SET_UP"],
    ["without a slot that was made", { row: { ...row, slotLsn: null } }, "RELAY_NOT_SET_UP"],
    ["when the table is another group's", { groupId: "other" }, "RELAY_NOT_SET_UP"],
    ["with rows older than the set-up", { row: { ...row, resyncReason: "there were rows" } }, "RELAY_RESYNC_NEEDED"],
    ["R15: when a resync did not end", { committed: at(200n, null, { slot: "slot_b" }) }, "RELAY_RESYNC_NEEDED"],
    ["R11: on another server", { server: { ...found.server, systemIdentifier: "7002" } }, "RELAY_SERVER_CHANGED"],
    [
      "R11: on another server, before the first position",
      { committed: null, server: { ...found.server, systemIdentifier: "7002" } },
      "RELAY_SERVER_CHANGED",
    ],
    ["R11: on another timeline", { server: { ...found.server, timeline: 2 } }, "RELAY_SERVER_CHANGED"],
    ["R12: beyond the end of the log", { committed: at(1_001n) }, "RELAY_POSITION_CONTRADICTS"],
    [
      "R12: with a database transaction under way beyond it",
      { committed: at(200n, { commitLsn: 1_001n, rows: 1 }) },
      "RELAY_POSITION_CONTRADICTS",
    ],
    [
      "beyond the database transaction that is under way",
      { committed: at(200n, { commitLsn: 199n, rows: 1 }) },
      "RELAY_POSITION_CONTRADICTS",
    ],
    ["R10: without a slot", { slot: null }, "RELAY_SLOT_LOST"],
    ["R10: with a slot whose log is gone", { slot: { ...slot, walStatus: "lost" } }, "RELAY_SLOT_LOST"],
    ["with a slot of another plugin", { slot: { ...slot, plugin: "test_decoding" } }, "RELAY_SLOT_LOST"],
    ["R16: with a publication that is not ours", { published: false }, "RELAY_SET_UP_CHANGED"],
    [
      "R13: without a position, after it has started",
      { committed: null, slot: { ...slot, confirmed: 100n } },
      "RELAY_POSITION_CONTRADICTS",
    ],
    [
      "R13: without a position, with a used slot",
      { committed: null, row: { ...row, started: false } },
      "RELAY_POSITION_CONTRADICTS",
    ],
    ["R14: below what the slot was told", { committed: at(149n) }, "RELAY_POSITION_CONTRADICTS"],
    [
      "at a position that is not a relay's",
      { committed: { offset: 5n, metadata: "trading/1/uuid" } },
      "RELAY_POSITION_CONTRADICTS",
    ],
  ])("%s", (_, change, code) => {
    expect(() => decideStart({ ...found, ...change })).toThrow(expect.objectContaining({ code, remedy: "halt" }));
  });
});

test("a position comes back from offset and metadata as it was", () => {
  for (const underWay of [null, { commitLsn: 0xffff_ffff_ffffn, rows: 99_999 }]) {
    const stored = { position: { lsn: 0x16_b374_d848n, underWay }, log };
    const { offset, metadata } = formatPosition(stored);
    expect(parsePosition(offset, metadata)).toEqual(stored);
  }
});

test("trap 5: LSNs are compared as numbers: text is not padded", () => {
  expect(parseLsn("0/9") < parseLsn("0/10")).toBe(true);
  expect(parseLsn("2/0") > parseLsn("1/FFFFFFFF")).toBe(true);
  expect(formatLsn(parseLsn("16/B374D848"))).toBe("16/B374D848");
  expect(() => parseLsn("16")).toThrow("no LSN");
});
