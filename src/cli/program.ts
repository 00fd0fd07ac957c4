/**
 * The command line: `lockstep <command>`. Data on stdout, talk on stderr, `--json` where data is printed.
 *
 * Exit codes: 0 ok, 1 failure, 2 usage, 69 a dependency is not there, 75 not all now: try again later, 78 bad configuration.
 */
import { Command, CommanderError, InvalidArgumentError } from "commander";

import { SETTINGS } from "../config.ts";
import { isLockstepError } from "../errors.ts";
import { packageVersion } from "../version.ts";
import { EXIT, exitCodeOf } from "./output.ts";

export async function main(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  let code: number = EXIT.ok;
  const program = buildProgram(env, (c) => {
    code = c;
  });
  try {
    await program.parseAsync(args.length === 0 ? ["run"] : [...args], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (isLockstepError(error)) process.stderr.write(`${error.code}: ${error.message}\n`);
    else process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return exitCodeOf(error);
  }
}

function buildProgram(env: NodeJS.ProcessEnv, exit: (code: number) => void): Command {
  const program = new Command("lockstep")
    .description(
      "XState machines hosted as keyed actors over Kafka partitions: input offsets, published records and Postgres rows committed together, exactly once, in order per key.",
    )
    .version(packageVersion())
    .exitOverride()
    .showHelpAfterError("(add --help for what it takes)");

  program
    .command("run")
    .description("host an app until SIGTERM (what a bare `node dist/main.js` does)")
    .option("--app <name|path>", "app to host; sets LOCKSTEP_APP")
    .option("--strict", "machines that read clock, chance or timers throw; sets LOCKSTEP_STRICT")
    .option("--unsafe", "start although Postgres may lose commits; sets LOCKSTEP_UNSAFE")
    .addHelpText("after", settingsHelp())
    .action(async (options: { app?: string; strict?: boolean; unsafe?: boolean }) => {
      const flags = {
        ...(options.strict ? { LOCKSTEP_STRICT: "true" } : {}),
        ...(options.unsafe ? { LOCKSTEP_UNSAFE: "true" } : {}),
      };
      exit(await (await import("./run.ts")).run({ ...withApp(env, options.app), ...flags }));
    });

  loadOptions(program.command("demo"))
    .description("start Kafka, Postgres and the app, send signals, show progress, and prove the outcome with `audit`")
    .option("--seconds <n>", "how long signals are sent", positive, 60)
    .option("--seed <n>", "same seed, same signals, same chaos", whole, 1)
    .option("--chaos", "two processes, killed and paused while they work", false)
    .option(
      "--kills <n>",
      "with --chaos: SIGKILLs, besides one SIGSTOP that outlasts the session time-out",
      positive,
      5,
    )
    .option(
      "--backlog <n>",
      "instead: send n signals first, then start, and measure how fast they are drained",
      positive,
    )
    .option("--workers <n>", "threads a process", positive, 2)
    .option("--dir <path>", "where data and logs go", ".lockstep")
    .option("--keep", "keep data and logs when all went well (they are kept when something failed)", false)
    .option("--json", "print one JSON object on stdout", false)
    .action(async (options) => exit(await (await import("./demo.ts")).demo(options, env)));

  loadOptions(program.command("generate"))
    .description("send the app's generated load to the configured Kafka, and write a manifest of what was sent")
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .option("--seconds <n>", "how long", positive, 60)
    .option("--total <n>", "instead: this many, as fast as possible", positive)
    .option("--seed <n>", "same seed, same signals", whole, 1)
    .option("--manifest <file>", "where the manifest goes", "manifest.json")
    .option("--json", "print the manifest on stdout", false)
    .action(async (options) =>
      exit(await (await import("./generate.ts")).generate(options, withApp(env, options.app))),
    );

  const topics = program.command("topics").description("the topics that an app reads and writes");
  for (const verb of ["apply", "check"] as const) {
    topics
      .command(verb)
      .description(
        verb === "apply"
          ? "create what is missing; never alters a partition count"
          : "compare what is there with what the app needs; exit 1 when they differ",
      )
      .option("--app <name|path>", "app; sets LOCKSTEP_APP")
      .option("--json", "print JSON", false)
      .action(async (options) =>
        exit(await (await import("./topics.ts")).topics(verb, options, withApp(env, options.app))),
      );
  }

  program
    .command("migrate")
    .description("bring the database up to date, and make this deployment's instance and its shards")
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .option("--json", "print JSON", false)
    .action(async (options) =>
      exit(await (await import("./migrate.ts")).migrateCommand(options, withApp(env, options.app))),
    );

  program
    .command("audit")
    .description(
      "prove from the journal, the topics and the tables that every input record took effect exactly once and in order",
    )
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .option("--manifest <file>", "what the generator sent, to compare with")
    .option("--json", "print JSON", false)
    .action(async (options) =>
      exit(await (await import("./audit.ts")).auditCommand(options, withApp(env, options.app))),
    );

  const relay = program.command("relay").description("publish the app's outbox table to its topic (docs/relay.md)");
  relay
    .command("run")
    .description("host a relay without shards until SIGTERM; every `run` hosts one too, and one of all works")
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .action(async (options) => exit(await (await import("./relay.ts")).relayRun(withApp(env, options.app))));
  relay
    .command("status")
    .description("who works, where the relay stands and how far that is behind; exit 1 when it has halted or would")
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .option("--json", "print JSON", false)
    .action(async (options) =>
      exit(await (await import("./relay.ts")).relayStatus(options, withApp(env, options.app))),
    );
  relay
    .command("resync")
    .description("after a halt: say which rows the topic lacks; with --yes publish them, and go on from a new slot")
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .option("--since <time>", "leave out rows that occurred before (ISO-8601)", instant)
    .option("--yes", "do it", false)
    .option("--json", "print JSON", false)
    .action(async (options) =>
      exit(await (await import("./relay.ts")).relayResync(options, withApp(env, options.app))),
    );

  const dlq = program
    .command("dlq")
    .description("the dead letters of an app: what could not be taken, or not be published, and why");
  selectOptions(dlq.command("list"))
    .description(
      "list dead letters by topic, partition and offset, those of inputs and of the outbox; reads all of them",
    )
    .option("--limit <n>", "of those that fit, the latest so many", whole, 100)
    .action(async (options) => exit(await (await import("./dlq.ts")).dlqList(options, withApp(env, options.app))));
  dlq
    .command("show <letter>")
    .description("one dead letter, <topic>/<partition>/<offset> as `list` shows it, with headers and value")
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .option("--json", "print JSON", false)
    .action(async (letter, options) =>
      exit(await (await import("./dlq.ts")).dlqShow(letter, options, withApp(env, options.app))),
    );
  selectOptions(dlq.command("replay [letters...]"))
    .description("send dead letters to their inputs again, each as a new record; the letters stay where they are")
    .option("--limit <n>", "of those that fit, only the latest so many", whole)
    .option("--all", "all that fit the other options", false)
    .option("--again", "also those that were sent again before", false)
    .option("--in-doubt", "also those of which it cannot be told, for their input has lost records since", false)
    .option("--dry-run", "show what would be sent", false)
    .option("--yes", "send", false)
    .action(async (letters, options) =>
      exit(await (await import("./dlq.ts")).dlqReplay(letters, options, withApp(env, options.app))),
    );

  for (const command of [...program.commands, ...topics.commands, ...relay.commands, ...dlq.commands])
    command.exitOverride();
  return program;
}

/** Which dead letters are meant. */
function selectOptions(command: Command): Command {
  return command
    .option("--app <name|path>", "app; sets LOCKSTEP_APP")
    .option(
      "--topic <name>",
      "an input or the outbox topic, or its dead letters; default: of all inputs and of the outbox",
    )
    .option("--code <code>", "only those with this cause, such as ROW_REFUSED")
    .option("--since <moment>", "only records of this time or later: 2026-11-21T09:00:00Z, or 90s, 15m, 24h, 7d ago")
    .option("--json", "print JSON", false);
}

/** Options of generated load. */
function loadOptions(command: Command): Command {
  return command
    .option("--rate <n>", "signals a second", positive, 500)
    .option("--symbols <n>", "how many symbols", positive, 20)
    .option("--speed <n>", "event time runs this many times faster than the clock", positive, 60)
    .option("--duplicates <share>", "share of exact duplicates", share, 0.05)
    .option("--late <share>", "share of late signals", share, 0.01)
    .option("--bad <share>", "share of records that can never succeed", share, 0.005);
}

function withApp(env: NodeJS.ProcessEnv, app: string | undefined): NodeJS.ProcessEnv {
  return app === undefined ? env : { ...env, LOCKSTEP_APP: app };
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new InvalidArgumentError("a number above 0 is wanted");
  return value;
}

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("a whole number is wanted");
  return value;
}

function share(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value <= 0.5)) throw new InvalidArgumentError("a share from 0 to 0.5 is wanted");
  return value;
}

function instant(text: string): Date {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError("a time as 2026-11-21T00:00:00Z is wanted");
  return time;
}

function settingsHelp(): string {
  const lines = Object.values(SETTINGS).map((setting) => {
    const fallback =
      setting.fallback === null ? "required" : setting.fallback === "" ? "" : `default ${setting.fallback}`;
    return `  ${setting.env.padEnd(36)} ${setting.about}${fallback ? ` (${fallback})` : ""}`;
  });
  return `\nSettings, from the environment:\n${lines.join("\n")}`;
}
