/**
 * Where each server of the stack comes from. For each of the two, the first that can be had:
 *
 *   environment   the address that the environment names
 *   embedded      a server of our own, from jars and binaries
 *   containers    a server in a container, where a Docker engine answers
 *
 * `LOCKSTEP_STACK` names one of the three; then it is that or nothing.
 */
import { LockstepError } from "../errors.ts";
import { type Missing, stackUnavailable } from "./prerequisites.ts";

export const STACK_SOURCES = ["environment", "embedded", "containers"] as const;
export type StackSource = (typeof STACK_SOURCES)[number];

export interface Wanted {
  readonly server: "kafka" | "postgres";
  /** The environment names it. */
  readonly named: boolean;
  /** What the embedded one needs and is not there. */
  readonly missing: () => Promise<readonly Missing[]>;
}

/** Variable that names each server. */
const ADDRESS = {
  kafka: { what: "the address of Kafka", install: "export LOCKSTEP_KAFKA_BROKERS=host:port" },
  postgres: { what: "the address of Postgres", install: "export LOCKSTEP_DATABASE_URL=postgres://..." },
} as const satisfies Record<Wanted["server"], Missing>;

/** @throws {LockstepError} CONFIG_INVALID LOCKSTEP_STACK is something else */
export function forcedSource(env: NodeJS.ProcessEnv): StackSource | null {
  const text = env["LOCKSTEP_STACK"]?.trim() ?? "";
  if (text === "") return null;
  const found = STACK_SOURCES.find((source) => source === text);
  if (found === undefined) {
    throw new LockstepError("CONFIG_INVALID", `LOCKSTEP_STACK is "${text}": ${STACK_SOURCES.join(", ")}, or not set.`);
  }
  return found;
}

/**
 * @param missingContainers what containers need and is not there; asked only when they come into question
 * @returns a source for each server wanted
 * @throws {LockstepError} STACK_UNAVAILABLE with everything that is missing, of the sources that were open
 */
export async function chooseSources<S extends Wanted["server"]>(
  wanted: readonly (Wanted & { readonly server: S })[],
  forced: StackSource | null,
  missingContainers: () => Promise<readonly Missing[]>,
): Promise<Record<S, StackSource>> {
  const chosen = {} as Record<S, StackSource>;
  const missing: Missing[] = [];
  let needsContainers = false;
  for (const { server, named, missing: missingEmbedded } of wanted) {
    if (forced === "environment" || (forced === null && named)) {
      chosen[server] = "environment";
      if (!named) missing.push(ADDRESS[server]);
      continue;
    }
    const lacking = forced === "containers" ? [] : await missingEmbedded();
    chosen[server] = forced ?? (lacking.length === 0 ? "embedded" : "containers");
    if (chosen[server] === "containers") needsContainers = true;
    if (forced !== "containers") missing.push(...lacking);
  }
  const absent = needsContainers ? await missingContainers() : [];
  if (needsContainers && absent.length === 0) return chosen; // what the embedded servers lack is not needed
  if (missing.length > 0 || absent.length > 0) throw stackUnavailable(missing, absent, forced);
  return chosen;
}
