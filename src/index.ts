/** The public API of Lockstep. */
export {
  type App,
  type AppOptions,
  count,
  type Delivered,
  defineApp,
  type InputDefinition,
  input,
  insert,
  outbox,
  publish,
  type Route,
  type RouteMeta,
  type Row,
  type Schema,
  tell,
} from "./actors/app.ts";
// What an app may bring beside its definition, in the module `tools` of its folder: topics, a load, rules for the audit.
export type { RecordVerdict, TimerVerdict } from "./audit/journal-format.ts";
export type { AuditReport, Finding, FindingKind, Findings } from "./audit/report.ts";
export type {
  AppRules,
  Effect,
  EffectSink,
  ExpectedEffect,
  FoundEffect,
  ShardFold,
  StreamRules,
  TableRules,
  TopicRules,
} from "./audit/rules.ts";
export type { DatabaseRow, InputHeaders, PublishedRecord, SourceRecord } from "./audit/sources.ts";
export { readStrictJson } from "./audit/strict-json.ts";
export type { AppTools, GeneratedRecord, LoadOptions, LoadRun, Manifest, WantedTopic } from "./cli/app-tools.ts";
export { ERROR_CODES, type ErrorCode, LockstepError, type Remedy } from "./errors.ts";
