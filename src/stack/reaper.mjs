/**
 * Ends the servers of a stack when the process that started them is gone, however it went: SIGKILL included.
 *
 * Run as a child of that process. Its standard input is a pipe that only the parent holds, so the pipe closes when the
 * parent ends. Until then the parent writes one JSON object a line:
 *   {"watch": <pid>, "signal": "SIGQUIT"}   end this process: first by this signal, later by SIGKILL
 *   {"remove": "<folder>"}                  then remove this folder
 * Plain JavaScript in a file of its own: it must run from src and from dist, on Node 20, without a loader.
 */
import { readFileSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";

const POLL_MS = 20;
/** How long a server may take to end by its own signal. */
const GRACE_MS = 3000;
const KILL_MS = 10_000;

const watched = [];
const folders = [];

// Whoever ends the parent by a signal to its whole group must not end its reaper as well.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const message = JSON.parse(line);
  if (message.watch !== undefined) {
    watched.push({ pid: message.watch, signal: message.signal, startedAt: startOf(message.watch) });
  }
  if (message.remove !== undefined) folders.push(message.remove);
});
lines.on("close", reap);
process.stdout.write("ready\n");

async function reap() {
  for (const server of watched) end(server, server.signal);
  await untilGone(GRACE_MS);
  for (const server of watched) end(server, "SIGKILL");
  await untilGone(KILL_MS);
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  process.exit(0);
}

async function untilGone(limitMs) {
  const deadline = performance.now() + limitMs;
  while (watched.some(isAlive) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function end(server, signal) {
  if (!isAlive(server)) return;
  try {
    process.kill(server.pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error; // ended between the two calls: what was wanted
  }
}

function isAlive(server) {
  try {
    process.kill(server.pid, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
  const startedAt = startOf(server.pid);
  // The number may have been given to another process since.
  return startedAt !== "zombie" && startedAt === server.startedAt;
}

/** When the process started, in clock ticks since boot; null where the system does not say (then the pid alone counts). */
function startOf(pid) {
  let stat;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return null; // no /proc on this system, or the process has ended
  }
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? "zombie" : fields[19];
}
