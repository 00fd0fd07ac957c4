/** Actors, by type and key: what they take and emit, where their time stands, and what waits for them. */
import { board } from "./board.ts";
import { overTime, perSecond, series, stat, table, UNIT } from "./panels.ts";

const CHOSEN = ['actor_type=~"$actor_type"', 'key=~"$key"'] as const;
const TOP = 20;

export const actors = () =>
  board({
    uid: "lockstep-actors",
    title: "Actors",
    about:
      "What actors take and emit, by type and key. Only the first keys of a process have series of their own " +
      "(LOCKSTEP_METRICS_ACTORS_MAX); the rest are counted under (other).",
    variables: [
      { label: "actor_type", metric: "lockstep_actor_events_total", title: "Actor type" },
      { label: "key", metric: "lockstep_actor_events_total", title: "Key" },
    ],
    rows: [
      {
        title: "By type",
        panels: [
          stat({
            title: "Actors with state",
            about: "By type, over all shards.",
            width: 8,
            unit: UNIT.count,
            queries: [
              {
                expr: `sum by (actor_type) (max by (actor_type, shard) (${series("lockstep_actor_active", CHOSEN[0])}))`,
                legend: "{{actor_type}}",
              },
            ],
          }),
          stat({
            title: "Events",
            about: "Events that actors took, by type.",
            width: 8,
            unit: UNIT.perSecond,
            queries: [
              { expr: perSecond("lockstep_actor_events_total", ["actor_type"], ...CHOSEN), legend: "{{actor_type}}" },
            ],
          }),
          stat({
            title: "Under (other)",
            about:
              "Share of the events whose actor has no series of its own. Raise LOCKSTEP_METRICS_ACTORS_MAX to see more.",
            width: 8,
            unit: UNIT.ratio,
            noValue: "0",
            queries: [
              {
                expr:
                  `(${perSecond("lockstep_actor_events_total", [], 'key="(other)"')} or vector(0))` +
                  ` / ${perSecond("lockstep_actor_events_total")}`,
                legend: "(other)",
              },
            ],
          }),
          overTime({
            title: "Events by type and result",
            about: "Stepped, or threw: then everything the record did was undone, and it was set aside.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [
              {
                expr: perSecond("lockstep_actor_events_total", ["actor_type", "result"], ...CHOSEN),
                legend: "{{actor_type}} {{result}}",
              },
            ],
          }),
          overTime({
            title: "Actors with state, by shard",
            about: "How evenly the keys lie on the shards.",
            width: 12,
            unit: UNIT.count,
            stacked: true,
            queries: [
              {
                expr: `max by (actor_type, shard) (${series("lockstep_actor_active", CHOSEN[0])})`,
                legend: "{{actor_type}} shard {{shard}}",
              },
            ],
          }),
        ],
      },
      {
        title: "By key",
        panels: [
          overTime({
            title: `Events of the ${TOP} busiest`,
            about: "A key far above the others is a hot one: it cannot be spread over shards.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [
              {
                expr: `topk(${TOP}, ${perSecond("lockstep_actor_events_total", ["actor_type", "key"], ...CHOSEN)})`,
                legend: "{{actor_type}} {{key}}",
              },
            ],
          }),
          overTime({
            title: `Emitted by the ${TOP} busiest`,
            about: "Events that actors emitted: what becomes of them is said by the routes of the app.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [
              {
                expr: `topk(${TOP}, ${perSecond("lockstep_actor_emitted_total", ["actor_type", "key"], ...CHOSEN)})`,
                legend: "{{actor_type}} {{key}}",
              },
            ],
          }),
          table({
            title: "Latest event",
            about: "Event time of the latest event that each actor took.",
            width: 12,
            unit: UNIT.unixMs,
            hidden: ["instance"],
            queries: [
              {
                expr: `max by (actor_type, key) (${series("lockstep_actor_last_event_timestamp_seconds", ...CHOSEN)}) * 1000`,
                legend: "",
              },
            ],
          }),
          overTime({
            title: "Threw",
            about: "Events whose step threw, by actor.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [
              {
                expr: perSecond("lockstep_actor_events_total", ["actor_type", "key"], ...CHOSEN, 'result="threw"'),
                legend: "{{actor_type}} {{key}}",
              },
            ],
          }),
        ],
      },
      {
        title: "By shard",
        panels: [
          table({
            title: "Stream time",
            about: "The greatest event time that a shard has accepted, or reached by a tick. Timers run on it.",
            width: 6,
            unit: UNIT.unixMs,
            queries: [
              { expr: `max by (shard) (${series("lockstep_shard_stream_time_seconds")}) * 1000 > 0`, legend: "" },
            ],
          }),
          overTime({
            title: "Timers that wait",
            about: "By shard.",
            width: 6,
            unit: UNIT.count,
            queries: [{ expr: `max by (shard) (${series("lockstep_shard_timers")})`, legend: "shard {{shard}}" }],
          }),
          overTime({
            title: "Queued records",
            about: "Fetched and not yet taken, by shard and input.",
            width: 6,
            unit: UNIT.count,
            queries: [
              {
                expr: `max by (shard, topic) (${series("lockstep_shard_queue_records")})`,
                legend: "shard {{shard}} {{topic}}",
              },
            ],
          }),
          overTime({
            title: "Paused inputs",
            about: "Inputs that are not fetched because enough of them is queued.",
            width: 6,
            unit: UNIT.count,
            queries: [
              { expr: `max by (shard) (${series("lockstep_shard_paused_inputs")})`, legend: "shard {{shard}}" },
            ],
          }),
        ],
      },
    ],
  });
