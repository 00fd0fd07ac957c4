/**
 * Processes of `lockstep run`, spawned by the demo and by tests: the same file an operator starts. Their log lines are read, so
 * that what they say of themselves can be counted; their signals are ours to send.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdirSync, readFileSync, type WriteStream } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly event?: string;
  readonly shard?: number;
  readonly [field: string]: unknown;
}

export interface RunProcessOptions {
  readonly name: string;
  /** Path of main.js. */
  readonly main: string;
  readonly env: NodeJS.ProcessEnv;
  /** Command of lockstep, default `run`. */
  readonly command?: readonly string[];
  /** Everything the process printed is kept here. */
  readonly logFile: string;
  readonly onLine?: (line: LogLine) => void;
}

export class RunProcess {
  readonly name: string;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  readonly #stderr: string[] = [];
  #ended = false;
  #exitCode: number | null = null;

  constructor(options: RunProcessOptions) {
    this.name = options.name;
    mkdirSync(dirname(options.logFile), { recursive: true });
    this.#log = createWriteStream(options.logFile, { flags: "a" });
    this.#child = spawn(process.execPath, ["--enable-source-maps", options.main, ...(options.command ?? ["run"])], {
      env: options.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    createInterface({ input: this.#child.stdout! }).on("line", (text) => {
      this.#log.write(`${text}\n`);
      const line = parseLine(text);
      if (line) options.onLine?.(line);
    });
    createInterface({ input: this.#child.stderr! }).on("line", (text) => {
      this.#log.write(`${text}\n`);
      this.#stderr.push(text);
      if (this.#stderr.length > 200) this.#stderr.shift();
    });
    this.exited = new Promise((resolve) => {
      this.#child.once("close", (code, signal) => {
        this.#ended = true;
        this.#exitCode = code;
        this.#log.end();
        resolve({ code, signal });
      });
      this.#child.once("error", (error) => {
        this.#stderr.push(String(error));
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** null while it runs, and when a signal has ended it. */
  get exitCode(): number | null {
    return this.#exitCode;
  }

  /** The last lines of stderr. */
  get stderr(): string {
    return this.#stderr.join("\n");
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.#ended) this.#child.kill(signal);
  }

  /** Resident memory in bytes; 0 where the system does not say or the process has ended. */
  rssBytes(): number {
    return this.#ended ? 0 : residentBytes(this.pid);
  }
}

/** Linux only: elsewhere 0, and the figure is left out. */
export function residentBytes(pid: number): number {
  try {
    const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return match ? Number(match[1]) * 1024 : 0;
  } catch {
    return 0; // no such file: the process has just ended, or this is not Linux
  }
}

function parseLine(text: string): LogLine | null {
  if (!text.startsWith("{")) return null;
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return null; // half a line of a process that was killed while it wrote
  }
}
