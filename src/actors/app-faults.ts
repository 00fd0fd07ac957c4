/**
 * What is wrong with an app definition, all at once, each a sentence. `defineApp` refuses an app that has any.
 */
import type { ActorDefinition, App, Route } from "./app.ts";
import { deadLetterTopic, outputTopics } from "./app.ts";
import { RUNTIME_COUNTERS } from "./counters.ts";
import { emittedTypes, machineFaults } from "./machine-host.ts";

/** Also part of group and transactional ids, so without a slash or a dot. */
const NAME = /^[a-z][a-z0-9_-]{0,62}$/i;
/** Kafka's rule for topic names. */
const TOPIC = /^[a-zA-Z0-9._-]{1,249}$/;
/** Written unquoted into statements: lower case, at most 63 bytes a part. */
const TABLE = /^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$/;

/** @returns sentences; empty when the app can be hosted */
export function appFaults(app: App): string[] {
  return [
    ...new Set([
      ...identityFaults(app),
      ...inputFaults(app),
      ...actorFaults(app),
      ...routeFaults(app),
      ...lateFaults(app),
      ...loopFaults(app),
    ]),
  ];
}

function identityFaults(app: App): string[] {
  const faults: string[] = [];
  if (!NAME.test(app.name))
    faults.push(`The name "${app.name}" is not a letter followed by up to 62 letters, digits, "-" or "_".`);
  if (!Number.isSafeInteger(app.version) || app.version < 1)
    faults.push(`The version ${app.version} is not a whole number of 1 or more.`);
  if (!Number.isSafeInteger(app.tellsMax) || app.tellsMax < 1)
    faults.push(`tellsMax ${app.tellsMax} is not a whole number of 1 or more.`);
  if (!TABLE.test(app.outboxTable)) faults.push(tableFault("The outbox table", app.outboxTable));
  faults.push(...topicFaults("The outbox topic", app.outboxTopic));
  if (TOPIC.test(app.outboxTopic) && !TOPIC.test(deadLetterTopic(app.outboxTopic)))
    faults.push(`The outbox topic "${app.outboxTopic}" leaves no room for the name of its dead letters.`);
  return faults;
}

function inputFaults(app: App): string[] {
  const faults: string[] = [];
  if (app.inputs.length === 0) faults.push("It has no input.");
  const seen = new Set<string>();
  for (const { topic, event, schema } of app.inputs) {
    if (seen.has(topic)) faults.push(`The input "${topic}" is defined twice.`);
    seen.add(topic);
    faults.push(...topicFaults("The input", topic));
    if (TOPIC.test(topic) && !TOPIC.test(deadLetterTopic(topic)))
      faults.push(`The input "${topic}" leaves no room for the name of its dead letters.`);
    if (typeof event !== "string" || event === "" || event.startsWith("xstate."))
      faults.push(
        `The input "${topic}" makes the event "${event}"; the name must not be empty nor begin with "xstate.".`,
      );
    if (typeof schema?.["~standard"]?.validate !== "function")
      faults.push(`The schema of the input "${topic}" is not a Standard Schema.`);
    if (!Object.values(app.actors).some((actor) => actor.on[event]))
      faults.push(`No actor takes the event "${event}" of the input "${topic}".`);
  }
  return faults;
}

function actorFaults(app: App): string[] {
  const events = new Set<string>(app.inputs.map((definition) => definition.event));
  const faults: string[] = [];
  if (Object.keys(app.actors).length === 0) faults.push("It has no actor.");
  for (const [type, actor] of Object.entries(app.actors)) {
    if (!NAME.test(type))
      faults.push(`The actor type "${type}" is not a letter followed by up to 62 letters, digits, "-" or "_".`);
    for (const event of Object.keys(actor.on)) {
      if (!events.has(event)) faults.push(`The actor "${type}" takes the event "${event}", which no input provides.`);
    }
    faults.push(
      ...machineFaults(actor.machine).map((fault) => `The machine of the actor "${type}" cannot be hosted: ${fault}.`),
    );
  }
  return faults;
}

function routeFaults(app: App): string[] {
  const faults: string[] = [];
  const emitted = Object.values(app.actors).map((actor: ActorDefinition) => emittedTypes(actor.machine));
  const known = new Set(emitted.flatMap((types) => [...types.known]));
  const complete = emitted.every((types) => types.complete);
  for (const type of known) {
    if (!Object.hasOwn(app.emits, type)) faults.push(`The event "${type}" is emitted and has no route.`);
  }
  for (const [type, routes] of Object.entries(app.emits)) {
    if (complete && !known.has(type)) faults.push(`The event "${type}" has a route, and no machine emits it.`);
    if (routes.length === 0) faults.push(`The event "${type}" has an empty list of routes.`);
    for (const route of routes) faults.push(...routeFault(app, type, route));
  }
  return faults;
}

function routeFault(app: App, type: string, route: Route<unknown>): string[] {
  switch (route.kind) {
    case "publish":
      return topicFaults(`The event "${type}" is published to`, route.topic);
    case "tell":
      return Object.hasOwn(app.actors, route.actor)
        ? []
        : [`The event "${type}" is told to the actor "${route.actor}", which the app does not have.`];
    case "insert":
      return TABLE.test(route.table)
        ? []
        : [tableFault(`The event "${type}" is inserted into a table that`, route.table)];
    case "outbox":
      return route.type === "" || route.aggregateType === ""
        ? [`The outbox route of the event "${type}" has an empty type or aggregate type.`]
        : [];
    case "count":
      return RUNTIME_COUNTERS.includes(route.name) || !NAME.test(route.name)
        ? [`The event "${type}" counts "${route.name}", which is a counter of the runtime or not a name.`]
        : [];
  }
}

function lateFaults(app: App): string[] {
  if (!app.late) return [];
  const { allowedMs, topic } = app.late;
  const faults = topic === undefined ? [] : topicFaults("The topic of late records", topic);
  if (!Number.isFinite(allowedMs) || allowedMs < 0)
    faults.push(`The allowed lateness ${allowedMs} ms is not a number of 0 or more.`);
  return faults;
}

function loopFaults(app: App): string[] {
  const inputs = new Set(app.inputs.map((definition) => definition.topic));
  return outputTopics(app)
    .filter((topic) => inputs.has(topic))
    .map(
      (topic) =>
        `The topic "${topic}" is an input and also written to: publishing back to an own input is not supported yet.`,
    );
}

function topicFaults(what: string, topic: string): string[] {
  return TOPIC.test(topic) && topic !== "." && topic !== ".."
    ? []
    : [`${what} "${topic}", which is not a topic name of Kafka.`];
}

function tableFault(what: string, table: string): string {
  return `${what} "${table}" is not of the form schema.table, in lower case.`;
}
